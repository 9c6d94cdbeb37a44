"""A control plane in a process of its own, to be killed: prints its URL and a key."""

import asyncio
import sys

from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings


async def main(database_url: str, claim_timeout: float) -> None:
    settings = ControlPlaneSettings(port=0, database_url=database_url, claim_timeout=claim_timeout)
    async with ControlPlane(settings) as server:
        key = await server.create_api_key("test")
        print(server.url, key.reveal(), flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))

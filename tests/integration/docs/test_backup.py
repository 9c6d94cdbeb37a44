"""The backup of docs/operations.md: a copy of a control plane's database, made while it runs."""

import re
import subprocess
import sys
from pathlib import Path

from oz_agent_sdk import AsyncOzAPI

from oz_agent_worker.controlplane.app import ControlPlane
from oz_agent_worker.controlplane.settings import ControlPlaneSettings
from scripts.docs.parts import DOCS
from tests.unit.docs.documents import read


def backup(database: Path) -> bytes:
    """Do what the page says, to this database."""
    (program,) = re.findall(r"python3 -c '([^']+)' > control-plane\.db", read(DOCS / "operations.md"))
    program = program.replace("/var/lib/oz/control-plane.db", str(database))
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout


async def test_a_copy_that_was_made_while_it_ran_has_all_runs(tmp_path: Path) -> None:
    live, copy = tmp_path / "live.db", tmp_path / "copy.db"
    async with ControlPlane(ControlPlaneSettings(port=0, database_url=f"sqlite:///{live}")) as server:
        key = await server.create_api_key("alice")
        async with AsyncOzAPI(base_url=f"{server.url}/api/v1", api_key=key.reveal()) as client:
            created = await client.agent.run(prompt="keep me")
        copy.write_bytes(backup(live))
    async with (
        ControlPlane(ControlPlaneSettings(port=0, database_url=f"sqlite:///{copy}")) as restored,
        AsyncOzAPI(base_url=f"{restored.url}/api/v1", api_key=key.reveal()) as client,
    ):
        assert (await client.agent.runs.retrieve(created.run_id)).prompt == "keep me"

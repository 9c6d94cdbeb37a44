"""``python -m tests.bench``: progress on stderr; a table on stdout, and last one line of JSON.

Exit code 0 though a figure is short of its budget, 1 where the run itself is broken.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from oz_agent_worker import __version__
from tests.cluster.api_tier import ApiTier
from tests.cluster.async_rest import AsyncRestClient
from tests.cluster.cache import progress
from tests.cluster.errors import ClusterError

from .burst import measure_burst
from .control_plane import ControlPlane
from .errors import BenchError
from .figures import Figure, summary, table
from .flight import measure_flight
from .idle import measure_idle
from .machine import describe_machine
from .node_process import running_node
from .settings import Settings, parse_settings
from .stage import Stage


async def _measure(tier: ApiTier, folder: Path, settings: Settings) -> list[Figure]:
    async with (
        AsyncRestClient(tier.connection(), user_agent="bench") as api,
        ControlPlane(settings.capabilities) as peer,
        running_node(tier.kubeconfig("kubelet")) as node,
    ):
        stage = Stage(tier, api, node, peer, folder, settings)
        progress(f"{settings.starts} starts of the worker")
        idle = await measure_idle(stage)
        progress(f"{settings.rounds} round(s) of {settings.burst} assignments at once, and a bare loop")
        burst = await measure_burst(stage)
        progress(f"{settings.in_flight} tasks in flight")
        flight = await measure_flight(stage)
    print(f"\nrequests to the API server after the start, {settings.in_flight} tasks")
    print("\n".join(flight.costs.rows(settings.in_flight)), end="\n\n")
    return [*idle, *burst, *flight.figures]


def main() -> int:
    """Run everything; return the exit code."""
    settings = parse_settings(sys.argv[1:])
    machine = describe_machine()
    progress("starting the API tier")
    try:
        with ApiTier() as tier, tempfile.TemporaryDirectory(prefix="oz-bench-") as folder:
            figures = asyncio.run(_measure(tier, Path(folder), settings))
    except (BenchError, ClusterError, TimeoutError) as error:
        progress(f"error: {error}")
        return 1
    line = summary(figures, machine, __version__)
    if settings.output is not None:
        settings.output.write_text(line + "\n")
    print(table(figures), line, sep="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

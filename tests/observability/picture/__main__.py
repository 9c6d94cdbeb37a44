"""Run tasks for some minutes and draw the dashboard: ``python -m tests.observability.picture``."""

import argparse
import asyncio
import contextlib
import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.cluster.cache import progress
from tests.cluster.errors import ClusterError
from tests.cluster.packages import monitoring_programs
from tests.observability.prometheus import Programs

from .answers import Span, answers
from .load import Submitter
from .page import PictureError, page, photograph
from .stage import CLUSTER_WORKER, HOST_WORKER, SCRAPE_INTERVAL, Stage, open_stage

__all__ = ["main"]

ROOT: Final = Path(__file__).parents[3]
DASHBOARD: Final = ROOT / "charts/oz-agent-worker/files/dashboard.json"
PICTURE: Final = ROOT / "docs/images/dashboard.png"
SEED: Final = 7
#: Tasks a second; more than the slots take, for a while.
LOAD: Final = {CLUSTER_WORKER: 1.2, HOST_WORKER: 0.25}
#: Of the whole time: when the control plane is ended, and for how long it is away.
AWAY_AT, AWAY = 0.55, 0.08


async def _play(stage: Stage, seconds: float) -> Span:
    """Let tasks run, take the control plane away for a while, and return the time to show."""
    start = time.time()
    submitting = asyncio.create_task(Submitter(stage.url, stage.key, SEED).run(LOAD))
    try:
        await asyncio.sleep(seconds * AWAY_AT)
        await stage.control_plane.stop()
        await asyncio.sleep(seconds * AWAY)
        await stage.control_plane.start()
        await asyncio.sleep(seconds * (1 - AWAY_AT - AWAY))
    finally:
        submitting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await submitting
    # At the beginning rates have no window yet.
    rate_interval = SCRAPE_INTERVAL * 8.0
    return Span(start + rate_interval, time.time(), SCRAPE_INTERVAL * 2.0, rate_interval)


async def _picture(seconds: float, picture: Path, folder: Path) -> None:
    found = monitoring_programs()
    programs = Programs(prometheus=found["prometheus"], promtool=found["promtool"])
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    async with open_stage(folder, programs) as stage:
        progress(f"tasks run for {seconds:.0f} s")
        span = await _play(stage, seconds)
        drawn = await asyncio.to_thread(lambda: list(answers(dashboard, stage.prometheus, span)))
    html, width, height = page(drawn, span)
    picture.parent.mkdir(parents=True, exist_ok=True)
    photograph(html, width, height, folder, picture)


def main() -> int:
    """Make the picture; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.observability.picture", description=__doc__)
    parser.add_argument("--seconds", type=float, default=420.0, help="how long tasks run (default: 420)")
    parser.add_argument("--output", type=Path, default=PICTURE, help="the PNG file")
    options = parser.parse_args()
    # Of the played node, whose readers come and go with the control plane.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="oz-dashboard-", ignore_cleanup_errors=True) as folder:
            asyncio.run(_picture(options.seconds, options.output.absolute(), Path(folder)))
    except (ClusterError, PictureError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    progress(str(options.output))
    return 0


if __name__ == "__main__":
    sys.exit(main())

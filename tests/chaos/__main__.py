"""``python -m tests.chaos``: progress on stderr; a table on stdout, and last one line of JSON."""

import asyncio
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.cluster.api_tier import ApiTier
from tests.cluster.errors import ClusterError

from .leaks import run_leak_check
from .levels import leaks
from .progress import Progress
from .report import exit_code, findings, summary, table
from .run import Result, run_chaos
from .settings import Settings, parse_settings
from .stage import ChaosError
from .story import story_of

#: Of so many bad runs the story is printed whole; the logs have the others'.
_STORIES = 5


def _show(result: Result) -> None:
    print(table(result.kills), end="\n\n")
    for line in findings(result):
        print(line)
    for bad in result.comparison.bad[:_STORIES]:
        print(f"\nthe story of run {bad.run_id} ({bad.title}), which {bad.why}:")
        print("\n".join(str(line) for line in story_of(result.folder, bad.run_id)))


def _run(settings: Settings, folder: Path) -> tuple[int, str]:
    """Run what the settings say; return the exit code and the last line."""
    progress = Progress()
    progress.say(f"seed {settings.seed}, backend {settings.backend}")
    with ExitStack() as stack:
        tier = stack.enter_context(ApiTier()) if settings.backend == "kubernetes" else None
        if settings.leaks:
            checked = asyncio.run(run_leak_check(settings, tier, folder, progress))
            print("\n".join(leaks(checked)) or "nothing has leaked")
            return (1 if leaks(checked) else 0), checked.summary()
        result = asyncio.run(run_chaos(settings, tier, folder, progress))
        _show(result)
        return exit_code(result), summary(result)


def main() -> int:
    """Run everything; return the exit code."""
    settings = parse_settings(sys.argv[1:])
    folder = settings.story or Path(tempfile.mkdtemp(prefix="oz-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        code, last_line = _run(settings, folder.absolute())
    except (ChaosError, ClusterError, TimeoutError) as error:
        print(f"error: {error}\nThe logs are in {folder}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"interrupted; the logs are in {folder}", file=sys.stderr)
        return 130
    if code == 0 and settings.story is None:
        shutil.rmtree(folder)
    else:
        print(f"\nThe logs are in {folder}")
    print(last_line)
    return code


if __name__ == "__main__":
    sys.exit(main())

"""How much chaos: the command line as frozen data."""

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .mutants import MUTANTS

__all__ = ["FULL", "SHARP", "SHORT", "Settings", "parse_settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``tasks`` and ``kills`` at least, and every step once; ``minutes`` at most until the dust settles.

    ``open_runs`` is how many runs are under way at a time, at most. ``worker_grace`` is the
    control plane's lease in seconds, and ``settle`` the time, in seconds, in which everything must
    have come to its end once the last fault is over; a slow machine has more of both
    (``Stage.pace``). ``api_restarts`` are those of the API server. ``story`` keeps the logs there;
    else they are kept only where something went wrong.
    """

    seed: int
    tasks: int
    kills: int
    minutes: float
    backend: str = "kubernetes"
    open_runs: int = 120
    worker_grace: float = 45.0
    settle: float = 150.0
    api_restarts: int = 3
    half_open: int = 2
    network_trouble: bool = True
    mutant: str | None = None
    leaks: int = 0
    story: Path | None = None


FULL: Final = Settings(seed=0, tasks=1000, kills=200, minutes=12.0)
SHORT: Final = Settings(
    seed=0, tasks=60, kills=15, minutes=10.0, open_runs=40, worker_grace=30.0, settle=300.0,
    api_restarts=1, half_open=0,
)  # fmt: skip
SHARP: Final = replace(
    SHORT,
    tasks=20,
    kills=4,
    minutes=5.0,
    worker_grace=15.0,
    settle=45.0,
    api_restarts=0,
    network_trouble=False,
)
"""For a mutant: the kills that show it, and nothing besides."""

_PROFILES: Final = {"full": FULL, "short": SHORT, "sharp": SHARP}
_LEAK_TASKS: Final = 10_000
#: A task costs about 0.12 s of CPU, half of it the API server's: ten minutes on two cores that are idle.
_LEAK_MINUTES: Final = 12.0


def parse_settings(argv: Sequence[str]) -> Settings:
    """Read the command line; a seed that is not given is drawn."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--profile", choices=sorted(_PROFILES), default="full")
    parser.add_argument("--seed", type=int, help="decides all that is random; default: drawn, and told")
    parser.add_argument("--tasks", type=int, help="at least so many")
    parser.add_argument("--kills", type=int, help="at least so many")
    parser.add_argument("--minutes", type=float, help="of chaos, at most")
    parser.add_argument("--backend", choices=["kubernetes", "direct"])
    parser.add_argument("--mutant", choices=sorted(MUTANTS), help="break a promise on purpose")
    parser.add_argument(
        "--leaks", type=int, nargs="?", const=_LEAK_TASKS, metavar="TASKS",
        help=f"no kills: run so many short tasks ({_LEAK_TASKS}) and look for what stays behind",
    )  # fmt: skip
    parser.add_argument("--story", type=Path, metavar="FOLDER", help="keep all logs in this folder")
    given = vars(parser.parse_args(argv))
    base = _PROFILES[given.pop("profile")]
    settings = replace(base, seed=random.SystemRandom().randrange(2**31))
    if given["leaks"] and given["minutes"] is None:
        given["minutes"] = _LEAK_MINUTES
    return replace(settings, **{name: value for name, value in given.items() if value is not None})

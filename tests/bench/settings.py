"""How much a run does: the command line as frozen data."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oz_agent_worker.protocol.frames import Capability, parse_capabilities

__all__ = ["Settings", "parse_settings"]

#: The budget of the burst is for as many.
_BURST: Final = 1000
_QUICK_BURST: Final = 200
_IN_FLIGHT: Final = 500
_QUICK_IN_FLIGHT: Final = 100
_STARTS: Final = 5
_QUICK_STARTS: Final = 3
_ROUNDS: Final = 3
_MOST_TRICKLED: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """``starts`` of the worker; ``in_flight`` tasks at once; ``rounds`` of ``burst`` assignments.

    ``rate`` is how many Pods a second end in the trickle.
    """

    starts: int = _STARTS
    in_flight: int = _IN_FLIGHT
    burst: int = _BURST
    rounds: int = _ROUNDS
    rate: float = 25.0
    capabilities: frozenset[Capability] = frozenset({Capability.ACK, Capability.HELLO})
    output: Path | None = None

    @property
    def trickled(self) -> int:
        """How many of the tasks in flight end one by one; the others end at once."""
        return min(self.in_flight // 2, _MOST_TRICKLED)


def parse_settings(arguments: Sequence[str]) -> Settings:
    """Read the command line; a wrong one ends the program with exit code 2."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer starts and tasks; figures vary more")
    parser.add_argument("--in-flight", type=_count, metavar="N", help=f"tasks at once (default {_IN_FLIGHT})")
    parser.add_argument("--burst", type=_count, metavar="N", help=f"tasks of a burst (default {_BURST})")
    parser.add_argument(
        "--capabilities", type=parse_capabilities, metavar="LIST", help="the control plane's: ack,hello"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the line of JSON there, too")
    given = parser.parse_args(arguments)
    quick: bool = given.quick
    defaults = Settings()
    return Settings(
        starts=_QUICK_STARTS if quick else _STARTS,
        in_flight=given.in_flight or (_QUICK_IN_FLIGHT if quick else _IN_FLIGHT),
        burst=given.burst or (_QUICK_BURST if quick else _BURST),
        rounds=1 if quick else _ROUNDS,
        capabilities=defaults.capabilities if given.capabilities is None else given.capabilities,
        output=given.output,
    )


def _count(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError("at least 2")
    return value

"""The story of a run that went wrong: every line that names it, from all ledgers, in order of time."""

import datetime
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Line", "story_of"]

_STAMPED = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)Z (.*)$")


class Line(NamedTuple):
    """``t`` in seconds since the epoch; a log's lines have whole seconds."""

    t: float
    source: str
    text: str

    def __str__(self) -> str:
        stamp = datetime.datetime.fromtimestamp(self.t, datetime.UTC).strftime("%H:%M:%S.%f")[:-3]
        return f"{stamp}  {self.source:<18} {self.text}"


def story_of(folder: Path, run_id: str) -> list[Line]:
    """Collect what the logs, the record of what ran and the harness's own events say of a run.

    Deaths and births of processes are in it, from the run's first word to its last.
    """
    own = [line for line in _all_lines(folder) if run_id in line.text]
    if not own:
        return []
    first, last = min(line.t for line in own) - 1, max(line.t for line in own) + 5
    around = [line for line in _events(folder) if first <= line.t <= last and "run_id" not in line.text]
    return sorted([*own, *around], key=lambda line: line.t)


def _all_lines(folder: Path) -> Iterator[Line]:
    yield from _events(folder)
    yield from _json_lines(folder / "ran.jsonl", "ran")
    for path in sorted(folder.glob("*.marks")):
        yield from _json_lines(path, path.stem)
    for path in sorted(folder.glob("*.log")):
        yield from _log_lines(path.read_text(errors="replace").splitlines(), path.stem)


def _events(folder: Path) -> Iterator[Line]:
    yield from _json_lines(folder / "events.jsonl", "harness")


def _json_lines(path: Path, source: str) -> Iterator[Line]:
    if path.exists():
        for text in path.read_text().splitlines():
            fields = json.loads(text)
            t = fields.pop("t")
            yield Line(t, source, json.dumps(fields))


def _log_lines(lines: Iterable[str], source: str) -> Iterator[Line]:
    t = 0.0
    for text in lines:
        found = _STAMPED.match(text)
        if found is not None:
            t = datetime.datetime.fromisoformat(f"{found[1]}+00:00").timestamp()
        yield Line(t, source, found[2] if found else text)

"""How far a run is: a line that changes on a terminal, else one every few seconds."""

import sys
import time
from typing import Final, TextIO

from .settings import Settings

__all__ = ["Progress"]

_EVERY: Final = 5.0


class Progress:
    """Writes to stderr: standard output belongs to the result."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._began = time.monotonic()
        self._reported_at = -_EVERY

    def report(self, submitted: int, open_runs: int, kills: int, settings: Settings) -> None:
        """While it rages."""
        self._write(
            f"{submitted} of {settings.tasks} tasks submitted, {open_runs} under way; "
            f"{kills} of {settings.kills} kills"
        )

    def settling(self, open_runs: int, left: int) -> None:
        """When it is over."""
        self._write(f"settling: {open_runs} runs under way, {left} things to be cleaned up")

    def say_now_and_then(self, text: str) -> None:
        """Whatever else there is to say while somebody waits."""
        self._write(text)

    def say(self, text: str) -> None:
        """One line to stay."""
        self._reported_at = -_EVERY
        self._write(text, end="\n")

    def _write(self, text: str, end: str = "") -> None:
        now = time.monotonic()
        line = f"{now - self._began:5.0f} s  {text}"
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{line}{end}")
        elif now - self._reported_at >= _EVERY:
            self._reported_at = now
            self._stream.write(f"{line}\n")
        self._stream.flush()

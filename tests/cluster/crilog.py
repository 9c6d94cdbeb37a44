"""The kubelet's own reader of container logs, as a program that tests can ask (``kubernetes/crilog``)."""

import base64
import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from .errors import ClusterError
from .kubelet.cri_log import LogOptions
from .processes import die_with_parent
from .provision import binaries

__all__ = ["CriLogReader", "Step"]


class Step(NamedTuple):
    """What happens to a followed log once its reader has read all of it: more, perhaps in another file."""

    append: bytes
    rotate: bool = False


class CriLogReader:
    """A context manager; ``read`` asks one request after the other."""

    def __enter__(self) -> Self:
        command = [str(binaries(["crilog"])["crilog"])]
        self._errors = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            preexec_fn=die_with_parent,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate()
        self._errors.close()

    def read(self, path: Path, options: LogOptions, steps: Sequence[Step] = (), failure: str = "") -> bytes:
        """Return the body of the kubelet's answer.

        The container of a log that is followed runs until the ``steps`` are done. Then it has ended,
        or the runtime answers with a ``failure``.

        Raises:
            ClusterError: the program has ended.
        """
        request = {
            "path": str(path),
            "follow": options.follow,
            "timestamps": options.timestamps,
            "since": "" if options.since is None else options.since.isoformat(timespec="seconds"),
            "tail": options.tail,
            "limit": options.limit,
            "steps": [
                {"append": base64.b64encode(step.append).decode(), "rotate": step.rotate} for step in steps
            ],
            "failure": failure,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            self._errors.seek(0)
            raise ClusterError(f"crilog ended: {self._errors.read().decode(errors='replace')[-500:]}")
        return base64.b64decode(json.loads(answer)["body"] or "")

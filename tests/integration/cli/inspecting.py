"""Commands that look into tasks, run as an operator types them, and what they leave behind."""

import asyncio
import gzip
import io
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from click.testing import CliRunner

from oz_agent_worker.cli import main

__all__ = ["Command", "Done", "command_with", "unpacked"]


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Awaitable[Done]]
"""Takes the arguments of the program."""


def command_with(kubeconfig: Path) -> Command:
    """Run commands in this process, with nothing but a kubeconfig."""

    def run_here(*arguments: str) -> Done:
        with CliRunner().isolation(env={"KUBECONFIG": str(kubeconfig)}) as (out, err, _):
            try:
                main(list(arguments))
            except SystemExit as exit_:
                code = int(exit_.code or 0)
        return Done(code, out.getvalue().decode(), err.getvalue().decode())

    async def run(*arguments: str) -> Done:
        return await asyncio.to_thread(run_here, *arguments)

    return run


def unpacked(bundle: bytes) -> dict[str, bytes]:
    """The files of a bundle, in their order; they are their owner's alone."""
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(bundle))) as archive:
        found = {}
        for entry in archive:
            assert entry.mode == 0o600
            content = archive.extractfile(entry)
            assert content is not None
            found[entry.name] = content.read()
        return found

"""A PostgreSQL server of the tests' own, where the machine has the program."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from .errors import ClusterError

__all__ = ["PostgreSQL", "find_server"]

#: Where Debian has each version's programs; on PATH are wrappers alone.
_DEBIAN: Final = Path("/usr/lib/postgresql")


def find_server() -> Path | None:
    """Return the folder of a server's programs, of the newest version."""
    found = sorted(_DEBIAN.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


class PostgreSQL:
    """A context manager: a fresh server on a socket in a folder of its own, gone at the end.

    It refuses to run as root, so for root it runs as ``nobody``.
    """

    def __init__(self, programs: Path) -> None:
        self._programs = programs
        # A path of a socket has 107 bytes at most (unix(7)).
        self._folder = Path(tempfile.mkdtemp(prefix="oz-pg-", dir="/tmp"))
        self._user = "nobody" if os.geteuid() == 0 else None

    @property
    def url(self) -> str:
        """The server's database, as an SQLAlchemy URL."""
        return f"postgresql+psycopg://oz@/postgres?host={self._folder}"

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            ClusterError: it did not start; the text has its output.
        """
        if self._user is not None:
            owner = pwd.getpwnam(self._user)
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        try:
            data = str(self._folder / "data")
            self._run(
                "initdb", "--pgdata", data, "--username=oz", "--auth=trust", "--no-sync", "--encoding=UTF8"
            )
            options = f"-c listen_addresses= -c unix_socket_directories={self._folder} -c fsync=off"
            log = str(self._folder / "log")
            self._run("pg_ctl", "start", "--wait", "--pgdata", data, "--log", log, "--options", options)
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate", "--pgdata", str(self._folder / "data"))
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = (str(self._programs / program), *arguments)
        # Its output goes to a file: a server that pg_ctl has started would hold a pipe open.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command,
                user=self._user,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
            if done.returncode != 0:
                output.seek(0)
                raise ClusterError(f"{program} failed: {output.read().decode(errors='replace')[-1000:]}")

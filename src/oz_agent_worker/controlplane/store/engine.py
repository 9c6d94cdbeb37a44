"""Opens the database of a URL and migrates it to the current schema."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from oz_agent_worker.errors import ConfigError, PreflightError

__all__ = ["WRITE", "exclusive", "migrate", "open_engine"]

#: Execution option of connections that write.
WRITE: Final = "oz_write"
_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def open_engine(database_url: str) -> Engine:
    """Open the database and migrate its schema.

    Raises:
        ConfigError: the URL is not valid.
        PreflightError: the database cannot be opened or migrated.
    """
    url = _parse(database_url)
    # Parameters contain prompts and token hashes, which must not appear in error messages.
    engine = create_engine(url, hide_parameters=True, pool_pre_ping=url.get_backend_name() != "sqlite")
    shown = url.render_as_string(hide_password=True)
    try:
        if engine.dialect.name == "sqlite":
            _prepare_file(url)
            _use_sqlite(engine)
        migrate(engine)
    except (OSError, SQLAlchemyError, CommandError) as error:
        engine.dispose()
        raise PreflightError(f"cannot open the database {shown}: {error}") from error
    return engine


def migrate(engine: Engine) -> None:
    """Apply the migrations that the database lacks."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@contextmanager
def exclusive(database_url: str) -> Iterator[None]:
    """Lock a SQLite database for this control plane.

    Two control planes on one file would assign each other's runs. The kernel releases the lock
    (``flock``) with the process, however that ends. Other databases are not locked.

    Raises:
        PreflightError: another process holds it.
    """
    url = _parse(database_url)
    if url.get_backend_name() != "sqlite":
        yield
        return
    path = _file_of(url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PreflightError(f"cannot use the database file {path}: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PreflightError(f"another control plane is running on {path}; stop it first") from None
        yield
    finally:
        os.close(descriptor)


def _parse(database_url: str) -> URL:
    try:
        url = make_url(database_url)
        url.get_dialect()
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"the database URL cannot be used: {error}") from error
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ConfigError("the database URL must name a file: sqlite:///path/to/control-plane.db")
    return url


def _file_of(url: URL) -> Path:
    return Path(url.database or "")


def _prepare_file(url: URL) -> None:
    # It contains prompts, so only its owner may read it. SQLite gives its -wal and -shm files
    # the same permissions.
    path = _file_of(url)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))


def _use_sqlite(engine: Engine) -> None:
    """Set SQLite up for one writer and several readers, with explicit transactions."""

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        # Otherwise the driver begins transactions itself, too late for BEGIN IMMEDIATE.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # FULL syncs at each commit. NORMAL survives a killed process but not a power cut, and a
        # worker deletes its record of a result once it is acknowledged. Group commit keeps the
        # number of syncs low.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA busy_timeout=10000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        # A reader that becomes a writer later may fail with SQLITE_BUSY at once.
        write = connection.get_execution_options().get(WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection

from oz_agent_worker.controlplane.store.engine import WRITE, open_engine
from tests.unit.controlplane.store.support import add_key


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/control-plane.db"


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    """A write transaction on a real SQLite file, with one API key in it."""
    engine = open_engine(database_url)
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        add_key(connection)
        yield connection
    engine.dispose()

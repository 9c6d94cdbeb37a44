import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, make_url, text

from oz_agent_worker.controlplane.store.engine import WRITE, open_engine
from tests.cluster.postgresql import PostgreSQL, find_server

from .support import add_key

#: Names a PostgreSQL database in which the tests may make schemas, as an SQLAlchemy URL.
POSTGRES = "OZ_TEST_POSTGRES_URL"


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/state/control-plane.db"


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The database that ``OZ_TEST_POSTGRES_URL`` names, or one on a server of this machine's."""
    if given := os.environ.get(POSTGRES):
        yield given
        return
    programs = find_server()
    if programs is None:
        pytest.skip(f"no PostgreSQL server here, and {POSTGRES} names no database")
    with PostgreSQL(programs) as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """A schema of its own in a PostgreSQL database."""
    url = make_url(postgres)
    schema, owner = f"test_{uuid.uuid4().hex}", create_engine(url)
    with owner.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    own = url.update_query_dict({"options": f"-csearch_path={schema}"})
    yield own.render_as_string(hide_password=False)
    with owner.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    owner.dispose()


@pytest.fixture(params=["database_url", "postgres_url"], ids=["sqlite", "postgresql"])
def connection(request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A write transaction on a real database, with one API key in it."""
    engine = open_engine(request.getfixturevalue(request.param))
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        add_key(connection)
        yield connection
    engine.dispose()

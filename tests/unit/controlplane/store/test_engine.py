from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, insert, inspect, text
from sqlalchemy.exc import IntegrityError

from oz_agent_worker.controlplane.rules.messages import brief
from oz_agent_worker.controlplane.rules.run_states import RunState
from oz_agent_worker.controlplane.store import lease_queries, migrations
from oz_agent_worker.controlplane.store.engine import WRITE, exclusive, migrate, open_engine
from oz_agent_worker.controlplane.store.tables import metadata, runs
from oz_agent_worker.errors import ConfigError, PreflightError

from .support import GRACE, KEY_ID, T0, S, add_key, new_run, stored


def test_the_migrations_make_the_tables_that_the_code_describes(connection: Connection) -> None:
    context = MigrationContext.configure(connection, opts={"compare_server_default": True})
    assert compare_metadata(context, metadata) == []


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    engine = open_engine(database_url)
    migrate(engine)
    with engine.connect() as connection:
        versions = connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all()
    engine.dispose()
    assert versions == ["0003"]


@pytest.mark.parametrize("database", ["database_url", "postgres_url"], ids=["sqlite", "postgresql"])
def test_a_database_of_before_the_checkpoint_is_brought_up_to_date_and_back(
    request: pytest.FixtureRequest, database: str
) -> None:
    """A lease that such a database holds begins anew: nothing says how far it had run."""
    engine = open_engine(request.getfixturevalue(database))
    with engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
        at_revision(connection, "0002")
        assert not inspect(connection).has_table("lease_checkpoint")
        add_key(connection)
        values = dict.fromkeys(("execution_id", "title", "prompt", "source", "worker_id"), "x")
        values |= {"id": "old", "creator_id": KEY_ID, "state": RunState.CLAIMED.value}
        times = {"created_at": T0, "updated_at": T0, "away_since": T0, "lease_until": T0 + S}
        columns = ", ".join(values | times)
        marks = ", ".join(f":{c}" for c in values | times)
        connection.execute(text(f"INSERT INTO runs ({columns}) VALUES ({marks})"), values | times)
        at_revision(connection, "head")
        lease_queries.start(connection, T0 + 100 * S, GRACE)
        run = stored(connection, "old")
        assert (run.lease_until, run.cancelled_by) == (T0 + 100 * S + 75 * S, None)
    engine.dispose()


def at_revision(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    (command.downgrade if revision == "0002" else command.upgrade)(config, revision)


def test_sqlite_is_set_up_to_survive_a_power_cut(database_url: str) -> None:
    engine = open_engine(database_url)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    engine.dispose()


def test_a_state_that_is_none_is_refused_by_the_database(connection: Connection) -> None:
    new = new_run()
    values = {"id": new.id, "execution_id": new.execution_id, "title": "", "prompt": "", "source": "API"}
    with pytest.raises(IntegrityError, match="ck_runs_state"):
        connection.execute(
            insert(runs).values(
                **values, creator_id=new.creator_id, state="DONE", created_at=T0, updated_at=T0
            )
        )


def test_a_logged_error_does_not_quote_what_was_stored(connection: Connection) -> None:
    new = new_run()
    values = {"id": new.id, "execution_id": new.execution_id, "title": "", "source": "API"}
    with pytest.raises(IntegrityError) as caught:
        connection.execute(
            insert(runs).values(
                **values,
                prompt="my secret prompt",
                creator_id=new.creator_id,
                state="DONE",
                created_at=T0,
                updated_at=T0,
            )
        )
    assert "ck_runs_state" in brief(caught.value)
    assert "my secret prompt" not in brief(caught.value)


def test_only_the_owner_can_read_the_database(database_url: str, tmp_path: Path) -> None:
    open_engine(database_url).dispose()
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "state" / "control-plane.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("url", ["", "nonsense", "sqlite://", "sqlite:///:memory:", "nosuchdb://h/d"])
def test_urls_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ConfigError, match="database URL"):
        open_engine(url)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_text("this is no database, but long enough to look like one " * 20)
    with pytest.raises(PreflightError, match=r"cannot open the database sqlite:///.*x\.db: .*not a database"):
        open_engine(f"sqlite:///{tmp_path}/x.db")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError, match="cannot open the database"):
        open_engine(f"sqlite:///{tmp_path}/file/x.db")
    with (
        pytest.raises(PreflightError, match="cannot use the database file"),
        exclusive(f"sqlite:///{tmp_path}/file/x.db"),
    ):
        pass


def test_a_database_is_held_by_one_control_plane(database_url: str) -> None:
    with (
        exclusive(database_url),
        pytest.raises(PreflightError, match="another control plane is running"),
        exclusive(database_url),
    ):
        pass
    with exclusive(database_url):
        pass

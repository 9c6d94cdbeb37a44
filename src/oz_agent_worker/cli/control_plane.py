"""The command ``control-plane``: serves it, and manages the keys of its users and workers."""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from oz_agent_worker.common.aio import cancel_and_wait, ends_before
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ExitCode, UsageError

from .log_setup import LogFormat, configure_logging
from .options import duration_in_seconds, log_level_option
from .output import age, echo_json, output_option, table
from .serve import run_until_signalled

if TYPE_CHECKING:
    from oz_agent_worker.controlplane.settings import ControlPlaneSettings

__all__ = ["control_plane"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

_database_option = click.option(
    "--database",
    envvar="OZ_CONTROL_PLANE_DATABASE",
    metavar="URL",
    help="SQLAlchemy URL, such as sqlite:////var/lib/oz/runs.db. Default: a file in your state folder.",
)


@click.group("control-plane", invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="PORT",
    default=8080,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--public-url",
    metavar="URL",
    help="URL for agents and workers elsewhere; default: the listening address.",
)
@click.option("--agent-image", metavar="IMAGE", help="Agent image of every assignment, mounted at /agent.")
@click.option("--task-image", metavar="IMAGE", help="Task image of every assignment; default: the worker's.")
@click.option(
    "--worker-grace",
    envvar="OZ_CONTROL_PLANE_WORKER_GRACE",
    metavar="TIME",
    default="10m",
    show_default=True,
    callback=lambda _ctx, _option, value: duration_in_seconds(value),
    help="How long a worker may be away, or not answer, before its runs expire: 90s, 1h.",
)
@click.option(
    "--max-starts",
    envvar="OZ_CONTROL_PLANE_MAX_STARTS",
    type=click.IntRange(min=1),
    metavar="NUMBER",
    default=5,
    show_default=True,
    help="Most starts of a run that is safe to retry; after the last lost worker it ends as ERROR.",
)
@click.option(
    "--api-key",
    envvar="OZ_CONTROL_PLANE_API_KEY",
    metavar="KEY",
    help="An API key to store at the start; best set as OZ_CONTROL_PLANE_API_KEY.",
)
@_database_option
@log_level_option
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="OZ_CONTROL_PLANE_LOG_FORMAT",
    help="Lines for people, or one JSON object per line.",
)
@click.pass_context
def control_plane(
    ctx: click.Context,
    /,
    host: str,
    port: int,
    public_url: str | None,
    agent_image: str | None,
    task_image: str | None,
    worker_grace: float,
    max_starts: int,
    api_key: str | None,
    database: str | None,
    log_level: str,
    log_format: LogFormat,
) -> None:
    """Serve the control plane: the Oz Agent API and the workers' WebSocket.

    \b
    Create a key, then start the server:
      oz-agent-worker control-plane create-key alice
      oz-agent-worker control-plane
    """
    ctx.obj = database
    if ctx.invoked_subcommand is not None:
        return
    from oz_agent_worker.controlplane.settings import ControlPlaneSettings

    configure_logging(log_level, log_format)
    settings = ControlPlaneSettings(
        host=host,
        port=port,
        public_url=public_url,
        database_url=_database_url(database),
        default_sidecar_image=agent_image,
        default_docker_image=task_image,
        worker_grace=worker_grace,
        max_starts=max_starts,
    )
    stop = asyncio.Event()
    # A key from a file often ends with a line break.
    serving = _serve(settings, Secret((api_key or "").strip()), stop)
    asyncio.run(run_until_signalled(serving, stop))


def _database_url(database: str | None) -> str:
    """The database's URL; creates the folder of the default file, for this user only."""
    from oz_agent_worker.controlplane.settings import default_database_url

    if database:
        return database
    url = default_database_url(os.environ)
    folder = Path(url.removeprefix("sqlite:///")).parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be created: {error.strerror}; give --database URL, or set XDG_STATE_HOME"
        ) from error
    return url


async def _serve(settings: "ControlPlaneSettings", key: Secret, stop: asyncio.Event) -> None:
    from oz_agent_worker.controlplane.app import ControlPlane
    from oz_agent_worker.controlplane.settings import describe_exposure

    async with ControlPlane(settings) as server:
        if key:
            await server.ensure_api_key("given at start", key)
        logger.info("%s", describe_exposure(settings))
        logger.info("Workers connect to %s, users to %s/api/v1", server.websocket_url, server.url)
        if not any(key.revoked_at is None for key in await server.list_api_keys()):
            logger.warning(
                "No API key exists yet: create one with `oz-agent-worker control-plane create-key NAME`"
            )
        serving = asyncio.create_task(server.serve_forever(), name="serve")
        if await ends_before(serving, stop):
            serving.result()
        else:
            await cancel_and_wait(serving)


def _with_database(
    ctx: click.Context, database: str | None, write: bool, operation: Callable[..., T], *arguments: Any
) -> T:
    """Run a store operation on the database of this command, or of the group."""
    from oz_agent_worker.controlplane.store.database import Database

    async def main() -> T:
        store = await Database.open(_database_url(database or ctx.obj))
        try:
            return await (store.write if write else store.read)(operation, *arguments)
        finally:
            await store.close()

    return asyncio.run(main())


@control_plane.command("create-key")
@click.argument("name")
@_database_option
@click.pass_context
def create_key(ctx: click.Context, /, name: str, database: str | None) -> None:
    """Create an API key for a user or a worker, and print it. It is not shown again."""
    from oz_agent_worker.controlplane.store import keys

    if not name.strip():
        raise UsageError("the key's name is empty")
    _, key = _with_database(ctx, database, True, keys.create_key, name, time.time_ns() // 1000)
    click.echo(key.reveal())
    click.echo(f"key {name!r} created; it is not shown again: use it as WARP_API_KEY", err=True)


@control_plane.command("keys")
@output_option
@_database_option
@click.pass_context
def list_keys(ctx: click.Context, /, output: str, database: str | None) -> None:
    """List the API keys. Only hashes are stored, so the keys themselves cannot be shown."""
    from oz_agent_worker.controlplane.store import keys

    found = [
        {
            "id": key.id,
            "name": key.name,
            "created_at": datetime.fromtimestamp(key.created_at / 1e6, UTC).isoformat(),
            "revoked": bool(key.revoked_at),
        }
        for key in _with_database(ctx, database, False, keys.list_keys)
    ]
    if output == "json":
        echo_json(found)
    elif found:
        rows = [
            (str(k["id"]), str(k["name"]), age(str(k["created_at"])), "revoked" if k["revoked"] else "valid")
            for k in found
        ]
        click.echo(table(("ID", "NAME", "AGE", "STATUS"), rows))
    else:
        click.echo("no keys found", err=True)


@control_plane.command("revoke-key")
@click.argument("key_id")
@_database_option
@click.pass_context
def revoke_key(ctx: click.Context, /, key_id: str, database: str | None) -> None:
    """Revoke the API key with KEY_ID (see `keys`).

    A running server keeps connections that were opened with this key until they end.
    """
    from oz_agent_worker.controlplane.store import keys

    if not _with_database(ctx, database, True, keys.revoke_key, key_id, time.time_ns() // 1000):
        click.echo(f"no valid key has the ID {key_id}", err=True)
        sys.exit(ExitCode.FAILURE)
    click.echo(f"key {key_id} revoked")

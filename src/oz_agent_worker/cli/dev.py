"""``dev``: control plane, worker and agent in one terminal."""

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oz_agent_worker.common.aio import ends_before
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ExitCode, UsageError
from oz_agent_worker.worker.app import WorkerOptions, run_worker
from oz_agent_worker.worker.backends.registry import implemented_backends
from oz_agent_worker.worker.config.load import WorkerConfig, WorkerFlags
from oz_agent_worker.worker.config.schema import BackendConfig, DirectConfig, KubernetesConfig

from .api_client import ApiClient
from .context import Target, announce, state_dir
from .log_setup import configure_logging
from .options import log_level_option, worker_option
from .runs import ending, exit_code_of, read_prompt_file, stream_run
from .serve import prepare_process, run_until_signalled
from .worker_config import load_worker_config

if TYPE_CHECKING:
    from oz_agent_worker.controlplane.app import ControlPlane

__all__ = ["dev", "pod_warnings"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Request:
    """What the command line asked for."""

    flags: WorkerFlags
    host: str
    port: int
    public_url: str | None
    agent_image: str | None
    prompt: str | None
    harness: str | None


@click.command("dev")
@worker_option(
    "--backend",
    type=click.Choice(implemented_backends()),
    help="direct: tasks are processes of this host (the default); kubernetes: Jobs in the current context.",
)
@worker_option("--config-file", metavar="FILE", help="A worker's config file.")
@worker_option("--worker-id", metavar="ID", default="dev", show_default=True, help="The worker's ID.")
@worker_option("--max-concurrent-tasks", type=int, metavar="N", help="0 is unlimited (the default).")
@worker_option("-e", "--env", multiple=True, metavar="KEY[=VALUE]", help="Variable for every task.")
@worker_option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@worker_option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Port to listen on. Default: a free one.",
)
@worker_option(
    "--public-url",
    metavar="URL",
    help="The control plane's URL for the tasks; Pods cannot use loopback.",
)
@worker_option("--agent-image", metavar="IMAGE", help="Agent image for Kubernetes, mounted at /agent.")
@worker_option(
    "--data-dir",
    metavar="DIR",
    help="Folder for runs and, without a config file, workspaces. Default: a temporary one.",
)
@worker_option("--run", "prompt", metavar="PROMPT", help="Submit one run, follow it, and stop when it ends.")
@worker_option("--run-file", metavar="FILE", help="As --run, with the prompt from a file.")
@worker_option("--harness", metavar="NAME", help="The harness for --run. Default: shell.")
@log_level_option
def dev(
    backend: str | None,
    config_file: str | None,
    worker_id: str,
    max_concurrent_tasks: int | None,
    env: tuple[str, ...],
    data_dir: str | None,
    run_file: str | None,
    log_level: str,
    **request: Any,
) -> None:
    """Run control plane, worker and agent in one terminal.

    While it runs, other terminals of this user find it: `oz-agent-worker run "..."` needs
    neither a URL nor a key.

    \b
    Examples:
      oz-agent-worker dev
      oz-agent-worker dev --run 'echo hello from $(hostname)'
      oz-agent-worker dev --backend kubernetes --public-url http://192.0.2.7:8080 --host 0.0.0.0 --port 8080
    """
    configure_logging(log_level)
    prepare_process()
    if run_file is not None:
        request["prompt"] = read_prompt_file(run_file)
    flags = WorkerFlags(
        worker_id=worker_id,
        backend=backend or (None if config_file else "direct"),
        config_file=config_file,
        max_concurrent_tasks=max_concurrent_tasks,
        env=env,
    )
    with _data_folder(data_dir) as folder:
        sys.exit(asyncio.run(_main(_Request(flags=flags, **request), folder)))


@contextlib.contextmanager
def _data_folder(chosen: str | None) -> Iterator[Path]:
    if chosen is None:
        with tempfile.TemporaryDirectory(prefix="oz-agent-worker-dev-", ignore_cleanup_errors=True) as name:
            yield Path(name)
    else:
        folder = Path(chosen)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"--data-dir {chosen} cannot be created: {error.strerror}") from error
        yield folder


async def _main(request: _Request, folder: Path) -> int:
    stop = asyncio.Event()
    item = await run_until_signalled(_serve(request, folder, stop), stop)
    if item is None:
        return ExitCode.OK if request.prompt is None else ExitCode.FAILURE
    click.echo(ending(item))
    return exit_code_of(item)


async def _serve(request: _Request, folder: Path, stop: asyncio.Event) -> dict[str, Any] | None:
    """Run all three until a signal, or until the run that was asked for has ended.

    Returns that run after its end; ``None`` if there is none.
    """
    from oz_agent_worker.controlplane.app import ControlPlane
    from oz_agent_worker.controlplane.settings import ControlPlaneSettings, describe_exposure

    settings = ControlPlaneSettings(
        host=request.host,
        port=request.port,
        public_url=request.public_url,
        database_url=f"sqlite:///{folder / 'control-plane.db'}",
        default_sidecar_image=request.agent_image,
    )
    async with ControlPlane(settings) as control_plane:
        target = Target(control_plane.url, await control_plane.create_api_key(f"dev {os.getpid()}"))
        config = _worker_config(request, control_plane, target.api_key, folder)
        logger.info("%s", describe_exposure(settings))
        with announce(target, os.environ):
            return await _run_all(request, config, target, stop)


async def _run_all(
    request: _Request, config: WorkerConfig, target: Target, stop: asyncio.Event
) -> dict[str, Any] | None:
    """Run the worker beside the user's run, or until a signal."""
    from oz_agent_worker.worker.backends.direct.agent_program import bundled_agent

    options = WorkerOptions(default_agent=bundled_agent(), shutdown_grace=10.0)
    environ = {name: value for name, value in os.environ.items() if name != "WARP_API_KEY"}
    worker = asyncio.create_task(run_worker(config, options, stop=stop, environ=environ), name="worker")
    user = asyncio.create_task(_user(request, target, stop), name="user")
    await asyncio.wait((worker, user), return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    try:
        await worker
        return await user
    finally:
        user.cancel()


async def _user(request: _Request, target: Target, stop: asyncio.Event) -> dict[str, Any] | None:
    if request.prompt is None:
        _print_banner(target)
        await stop.wait()
        return None
    async with ApiClient.connect(target, os.environ) as client:
        config = {"harness": {"type": request.harness or "shell"}}
        created = await client.create_run(request.prompt, config, None)
        run_id = str(created["run_id"])
        click.echo(f"run {run_id} submitted", err=True)
        following = asyncio.create_task(stream_run(client, run_id), name="follow")
        if not await ends_before(following, stop):
            following.cancel()
            click.echo(f"stopped following run {run_id} before its end", err=True)
            return None
        return following.result()


def _print_banner(target: Target) -> None:
    note = state_dir(os.environ) / "dev.json"
    click.echo(f"""
Control plane   {target.url}
API key         {target.api_key.reveal()}

In another terminal, as this user (found through {note}):
  oz-agent-worker run 'echo hello from $(hostname)' --follow
  oz-agent-worker runs

From anywhere else on this machine:
  export WARP_SERVER_ROOT_URL={target.url}
  export WARP_API_KEY={target.api_key.reveal()}

Ctrl-C stops everything.
""")


def _worker_config(
    request: _Request, control_plane: "ControlPlane", key: Secret, folder: Path
) -> WorkerConfig:
    flags = replace(
        request.flags,
        api_key=key,
        web_socket_url=control_plane.websocket_url,
        server_root_url=request.public_url or control_plane.url,
    )
    config = load_worker_config(flags, os.environ)
    if request.flags.config_file is None:
        config = replace(config, backend=_of_this_user(config.backend, folder))
    if isinstance(config.backend, KubernetesConfig):
        for warning in pod_warnings(request.host, request.public_url, request.agent_image):
            logger.warning("%s", warning)
    return config


def _of_this_user(backend: BackendConfig, folder: Path) -> BackendConfig:
    """Give a backend without a config file this run's folder, or the namespace of the user's context."""
    match backend:
        case DirectConfig():
            return replace(backend, workspace_root=str(folder / "workspaces"))
        case KubernetesConfig():
            from oz_agent_worker.worker.backends.kubernetes.api.credentials import load_credentials

            credentials = load_credentials(backend.kubeconfig, environ=os.environ)
            return replace(backend, namespace=credentials.namespace or backend.namespace)
    return backend


def pod_warnings(host: str, public_url: str | None, agent_image: str | None) -> list[str]:
    """What the agent in a Pod lacks, if flags are missing: a text for each."""
    from oz_agent_worker.controlplane.settings import is_loopback

    warnings = []
    if public_url is None and is_loopback(host):
        warnings.append(
            f"Pods cannot reach the control plane at {host}: give --host with an address of this machine "
            "and --public-url with the URL that Pods use (Pods in the host's network need neither)"
        )
    if agent_image is None:
        warnings.append(
            "The Pods get no agent: give --agent-image, or use an image that has /agent/entrypoint.sh. "
            "Without an agent a task ends with exit code 127"
        )
    return warnings

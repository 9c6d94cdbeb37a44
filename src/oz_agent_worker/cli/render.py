"""``render``: the Job that an assignment would become, without a cluster and without a key."""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from oz_agent_worker.errors import UsageError
from oz_agent_worker.protocol.assignment import Assignment, AssignmentError, parse_assignment
from oz_agent_worker.protocol.frames import FrameError, TaskAssignment, decode_control_plane_frame
from oz_agent_worker.worker.app import task_settings
from oz_agent_worker.worker.config.load import WorkerConfig
from oz_agent_worker.worker.config.schema import KubernetesConfig
from oz_agent_worker.worker.task_spec import build_task_spec

from .options import flags_from, worker_options
from .worker_config import load_worker_config

__all__ = ["render"]


@click.command("render")
@worker_options
@click.option(
    "--assignment",
    "assignment_file",
    required=True,
    metavar="FILE",
    help="JSON: a task_assignment frame, or its data; - reads standard input.",
)
@click.option(
    "-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True,
    help="Format of the manifests.",
)  # fmt: skip
@click.pass_context
def render(
    ctx: click.Context, /, assignment_file: str, output: Literal["yaml", "json"], **options: Any
) -> None:
    """Print the Job that an assignment would become.

    Needs no cluster and no API key. Takes the worker's own flags, -e included. The output shows
    the task's variables in clear, as the Job would. With backend.kubernetes.task_env_secret the
    output is the Job and a Secret whose values are not shown. Warnings are on standard error.
    """
    from oz_agent_worker.worker.backends.kubernetes.manifest.job import plan_job
    from oz_agent_worker.worker.backends.kubernetes.manifest.render import (
        render_manifests,
        without_values,
    )

    flags = flags_from(options, under=ctx.obj)
    if not flags.backend and not flags.config_file:
        flags = dataclasses.replace(flags, backend="kubernetes")
    config = load_worker_config(flags, os.environ, needs_key=False)
    for warning in config.warnings:
        click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {warning}", err=True)
    kubernetes = _kubernetes_section(config)
    assignment = _read_assignment(assignment_file)
    try:
        spec = build_task_spec(assignment, task_settings(config))
        plan = plan_job(spec, kubernetes, worker_id=config.worker_id, cleanup=config.cleanup)
    except AssignmentError as error:
        raise UsageError(f"{assignment_file}: {error}") from error
    manifests = [plan.job]
    if plan.secret_name is not None:
        secret = plan.environment_secret(plan.secret_name, "(the Job's, once it is created)")
        manifests.append(without_values(secret))
    click.echo(render_manifests(manifests, output), nl=False)


def _kubernetes_section(config: WorkerConfig) -> KubernetesConfig:
    if not isinstance(config.backend, KubernetesConfig):
        raise UsageError(
            f"render is for the kubernetes backend, but this configuration's is {config.backend_name}: "
            "give --backend kubernetes, or a config file with backend.kubernetes"
        )
    return config.backend


def _read_assignment(path: str) -> Assignment:
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"assignment {path} cannot be read: {error.strerror}") from error
    try:
        frame = decode_control_plane_frame(_as_frame(content))
        if not isinstance(frame, TaskAssignment):
            raise UsageError(f"{path}: this is a {frame.kind} frame, but render takes a task_assignment")
        return parse_assignment(frame)
    except (FrameError, AssignmentError, msgspec.DecodeError) as error:
        raise UsageError(f"{path}: {error}") from error


def _as_frame(content: bytes) -> bytes:
    """Wrap bare ``data`` as a frame."""
    document = msgspec.json.decode(content)
    if isinstance(document, dict) and "type" in document and "data" in document:
        return content
    return msgspec.json.encode({"type": TaskAssignment.kind, "data": msgspec.Raw(content)})

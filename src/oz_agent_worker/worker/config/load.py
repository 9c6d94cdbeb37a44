"""Read the config file and join it with the command line.

Precedence: flag, then file, then default. A flag of 0 or "" counts as not given. All errors
are collected, so that one run shows every one.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ConfigError

from .nodes import Problems, value_at
from .schema import (
    BACKEND_SECTIONS,
    BackendConfig,
    CommandConfig,
    DirectConfig,
    DockerConfig,
    FileConfig,
    KubernetesConfig,
)
from .shapes import EnvEntry, is_volume, parse_duration, section

__all__ = ["WorkerConfig", "WorkerFlags", "parse_file", "read_file", "resolve"]

DEFAULT_WEB_SOCKET_URL: Final = "wss://oz.warp.dev/api/v1/selfhosted/worker/ws"
DEFAULT_SERVER_ROOT_URL: Final = "https://app.warp.dev"
RESERVED_ID_PREFIX: Final = "warp"


@dataclass(frozen=True, kw_only=True)
class WorkerFlags:
    """The worker's command line; ``None``, 0, "" and empty mean not given."""

    worker_id: str | None = None
    api_key: Secret | None = None
    config_file: str | None = None
    backend: str | None = None
    no_cleanup: bool = False
    volumes: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    max_concurrent_tasks: int | None = None
    idle_on_complete: str | None = None
    target_dir: str | None = None
    web_socket_url: str | None = None
    server_root_url: str | None = None
    session_sharing_server_url: str | None = None


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker runs with, fully resolved.

    ``environment`` has the operator's variables for every task. ``notices`` name settings that
    were given and have no effect; the worker logs them as warnings.
    """

    worker_id: str
    api_key: Secret
    backend: BackendConfig
    backend_name: str
    cleanup: bool
    max_concurrent_tasks: int
    idle_on_complete: str | None
    environment: Mapping[str, Secret]
    web_socket_url: str
    server_root_url: str
    session_sharing_server_url: str | None
    notices: tuple[str, ...] = ()


def read_file(path: str) -> tuple[FileConfig, Problems]:
    """Read a config file.

    Raises:
        ConfigError: the file cannot be read, or is not YAML.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"config file {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} cannot be read: {error}") from error
    return parse_file(content, path)


def parse_file(content: str, source: str) -> tuple[FileConfig, Problems]:
    """Parse a config file's content; problems name ``source`` and the line.

    Raises:
        ConfigError: the content is not YAML.
    """
    problems = Problems(source)
    try:
        node = yaml.compose(content, Loader=yaml.SafeLoader)
        decoded = section(FileConfig).decode(node, "", problems) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{source}:{line}: this is not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source}: this YAML cannot be used: {error}") from None
    config = decoded or FileConfig()
    if len(config.backend) > 1:
        keys = " and ".join(f"backend.{name}" for name in BACKEND_SECTIONS if name in config.backend)
        where = value_at(node, "backend")
        problems.note("backend", where, f"{keys} are set, but a worker has one backend: keep one of them")
    return config, problems


def resolve(
    flags: WorkerFlags,
    file: FileConfig,
    problems: Problems,
    environ: Mapping[str, str],
    *,
    needs_key: bool = True,
) -> WorkerConfig:
    """Join flags, file and defaults; add what is wrong to ``problems``.

    The result is valid only if ``problems`` stays empty. With ``needs_key`` false neither an API
    key nor a worker ID is required (``render`` needs neither).
    """
    worker_id = flags.worker_id or file.worker_id or ""
    # A key that comes from a file often ends with a line break.
    api_key = Secret(flags.api_key.reveal().strip() if flags.api_key else "")
    _check_identity(worker_id, api_key, problems, needs_key=needs_key)
    name, backend = _backend(flags, file, problems)
    entries = () if isinstance(backend, KubernetesConfig) else backend.environment
    idle = flags.idle_on_complete or file.idle_on_complete
    if flags.idle_on_complete and parse_duration(flags.idle_on_complete) is None:
        _flag(problems, "--idle-on-complete", flags.idle_on_complete, "a duration such as 45m or 0s")
    if (flags.max_concurrent_tasks or 0) < 0:
        _flag(problems, "--max-concurrent-tasks", str(flags.max_concurrent_tasks), "0 (unlimited) or more")
    return WorkerConfig(
        worker_id=worker_id or "worker",
        api_key=api_key,
        backend=_adjusted(backend, flags, environ, problems),
        backend_name=name,
        cleanup=file.cleanup and not flags.no_cleanup,
        max_concurrent_tasks=flags.max_concurrent_tasks or file.max_concurrent_tasks,
        idle_on_complete=idle,
        environment=_resolved((*entries, *_environment_flags(flags.env, problems)), environ),
        web_socket_url=_url("--web-socket-url", flags.web_socket_url, problems, "wss", "ws")
        or DEFAULT_WEB_SOCKET_URL,
        server_root_url=_url("--server-root-url", flags.server_root_url, problems, "https", "http")
        or DEFAULT_SERVER_ROOT_URL,
        session_sharing_server_url=_url(
            "--session-sharing-server-url", flags.session_sharing_server_url, problems,
            "https", "http", "wss", "ws",
        ),
        notices=tuple(_notices(flags, file, name)),
    )  # fmt: skip


def _check_identity(worker_id: str, key: Secret, problems: Problems, *, needs_key: bool) -> None:
    checks = (
        (
            worker_id.lower().startswith(RESERVED_ID_PREFIX),
            f"worker ID {worker_id!r}: IDs that begin with `{RESERVED_ID_PREFIX}` are reserved",
        ),
        (
            _is_broken(worker_id),
            f"worker ID {worker_id!r}: white space and control characters are not allowed",
        ),
        (
            needs_key and not worker_id,
            "a worker ID is required: give --worker-id, or worker_id in the config file",
        ),
        (needs_key and not key, "an API key is required: set WARP_API_KEY (or give --api-key)"),
        (
            _is_broken(key.reveal()),
            "the API key contains white space or control characters (it is not shown here)",
        ),
    )
    problems.found.extend(text for wrong, text in checks if wrong)


def _is_broken(text: str) -> bool:
    return any(c.isspace() or not c.isprintable() for c in text)


def _backend(flags: WorkerFlags, file: FileConfig, problems: Problems) -> tuple[str, BackendConfig]:
    sections = file.backend
    name = flags.backend or next((name for name in BACKEND_SECTIONS if name in sections), "docker")
    if name not in BACKEND_SECTIONS:
        _flag(problems, "--backend", name, "one of " + ", ".join(BACKEND_SECTIONS))
        name = "docker"
    if name in sections:
        return name, sections[name]
    if name == "command":
        problems.found.append(
            "backend.command.dispatch_command is required for --backend command: give it in the config file"
        )
        return name, CommandConfig(dispatch_command="false")
    return name, BACKEND_SECTIONS[name]()


def _adjusted(
    backend: BackendConfig, flags: WorkerFlags, environ: Mapping[str, str], problems: Problems
) -> BackendConfig:
    """Apply the flags that belong to one backend."""
    match backend:
        case DirectConfig():
            return dataclasses.replace(backend, target_dir=flags.target_dir or backend.target_dir)
        case DockerConfig():
            for volume in flags.volumes:
                if not is_volume(volume):
                    _flag(problems, "--volumes", volume, "HOST:CONTAINER, or with :ro or :rw")
            return dataclasses.replace(backend, volumes=(*backend.volumes, *flags.volumes))
        case KubernetesConfig():
            values = _resolved(backend.environment, environ)
            pairs = tuple(EnvEntry(name, value.reveal()) for name, value in values.items())
            return dataclasses.replace(backend, environment=pairs)
        case CommandConfig():
            return backend


def _resolved(entries: Iterable[EnvEntry], environ: Mapping[str, str]) -> dict[str, Secret]:
    """The value of each entry, the last one of a name. An entry that names an unset variable is left out."""
    pairs = ((e.name, environ.get(e.name) if e.value is None else e.value) for e in entries)
    return {name: Secret(value) for name, value in pairs if value is not None}


def _environment_flags(entries: Iterable[str], problems: Problems) -> Iterator[EnvEntry]:
    for entry in entries:
        name, equals, value = entry.partition("=")
        if name and not any(c.isspace() for c in name):
            yield EnvEntry(name, value if equals else None)
        else:
            # The entry is not shown: its value may be a secret.
            problems.found.append(
                "--env: an entry is empty, or its key is empty or contains white space; "
                "allowed is KEY=VALUE, or KEY to pass the worker's own value on"
            )


def _url(flag: str, value: str | None, problems: Problems, *schemes: str) -> str | None:
    if not value:
        return None
    try:
        parts = urlsplit(value)
        sound = parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound:
        _flag(problems, flag, value, "a URL that begins with " + " or ".join(f"{s}://" for s in schemes))
    return value


def _flag(problems: Problems, flag: str, read: str, allowed: str) -> None:
    problems.found.append(f"{flag}: read {read!r}, allowed is {allowed}")


def _notices(flags: WorkerFlags, file: FileConfig, name: str) -> Iterable[str]:
    if flags.volumes and name != "docker":
        yield f"--volumes has no effect: it is for the docker backend, and this is {name}"
    if flags.target_dir and name != "direct":
        yield f"--target-dir has no effect: it is for the direct backend, and this is {name}"
    for other in file.backend:
        if other != name:
            yield f"backend.{other} of the config file has no effect: --backend chose {name}"

"""Read the config file and join it with the command line.

Precedence: flag, then file, then default. A flag of 0 or "" counts as not given. All errors
are collected, so that one run shows every one.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ConfigError

from .dialect import compose
from .durations import idle_warning, is_no_duration
from .flags import WorkerFlags, env_flags, volume_flags
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
from .shapes import VOLUME, EnvEntry, is_volume, section

__all__ = ["WorkerConfig", "WorkerFlags", "parse_file", "read_file", "resolve"]

DEFAULT_WEB_SOCKET_URL: Final = "wss://oz.warp.dev/api/v1/selfhosted/worker/ws"
DEFAULT_SERVER_ROOT_URL: Final = "https://app.warp.dev"
RESERVED_ID_PREFIX: Final = "warp"


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker runs with, fully resolved.

    ``environment`` has the operator's variables for every task. ``warnings`` name settings that
    have no effect, or may not be meant as they are read; the worker logs them.
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
    warnings: tuple[str, ...] = ()


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
        ConfigError: the content is empty, or not YAML.
    """
    problems = Problems(source)
    try:
        node, second = compose(content)
        decoded = section(FileConfig).decode(node, "", problems) if node is not None else None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{source}:{line}: this is not YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{source}: this YAML cannot be used: {error}") from None
    if node is None:
        raise ConfigError(f"{source}: this file is empty: give it a key, or leave --config-file out")
    if second is not None:
        problems.warnings.append(f"{source}:{second}: a second document begins here; it is ignored")
    config = decoded or FileConfig()
    problems.root = node
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
    place = "" if flags.worker_id else problems.line_of("worker_id")
    _check_identity(worker_id, place, api_key, problems, needs_key=needs_key)
    name, backend = _backend(flags, file, problems)
    entries = () if isinstance(backend, KubernetesConfig) else backend.environment
    backend = _adjusted(backend, flags, environ, problems)
    given = (*entries, *env_flags(flags.env, environ, problems))
    environment = _resolved(given, environ, backend, problems)
    if (flags.max_concurrent_tasks or 0) >= 2**63:
        _flag(problems, "--max-concurrent-tasks", str(flags.max_concurrent_tasks), "a number of 64 bits")
    _check_idle(flags.idle_on_complete, problems)
    web_socket_url = _url("--web-socket-url", flags.web_socket_url, problems, "wss", "ws")
    server_root_url = _url("--server-root-url", flags.server_root_url, problems, "https", "http")
    session_sharing_server_url = _url(
        "--session-sharing-server-url", flags.session_sharing_server_url, problems,
        "https", "http", "wss", "ws",
    )  # fmt: skip
    problems.warnings.extend(_without_effect(flags, file, name, problems))
    if flags.strict or file.strict:
        problems.found.extend(problems.warnings)
        problems.warnings.clear()
    return WorkerConfig(
        worker_id=worker_id or "worker",
        api_key=api_key,
        backend=backend,
        backend_name=name,
        cleanup=file.cleanup and not flags.no_cleanup,
        max_concurrent_tasks=max(0, flags.max_concurrent_tasks or file.max_concurrent_tasks),
        idle_on_complete=flags.idle_on_complete or file.idle_on_complete,
        environment=environment,
        web_socket_url=web_socket_url or DEFAULT_WEB_SOCKET_URL,
        server_root_url=server_root_url or DEFAULT_SERVER_ROOT_URL,
        session_sharing_server_url=session_sharing_server_url,
        warnings=tuple(problems.warnings),
    )


def _check_identity(worker_id: str, place: str, key: Secret, problems: Problems, *, needs_key: bool) -> None:
    named = f"{place}worker ID {worker_id!r}"
    checks = (
        (
            worker_id.startswith(RESERVED_ID_PREFIX),
            f"{named}: IDs that begin with `{RESERVED_ID_PREFIX}` are reserved",
        ),
        (
            not _is_utf_8(worker_id) or any(c < " " or "\x7f" <= c <= "\x9f" for c in worker_id),
            f"{named}: control characters, and bytes that are not UTF-8, are not allowed",
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
    found = [text for wrong, text in checks if wrong]
    problems.found.extend(found)
    if found:
        return
    if worker_id.lower().startswith(RESERVED_ID_PREFIX):
        problems.warnings.append(
            f"{named}: IDs that begin with `{RESERVED_ID_PREFIX}` are reserved, and this one"
            " differs in case alone: choose another"
        )
    if _is_broken(worker_id):
        problems.warnings.append(
            f"{named} contains white space or characters that are not visible: quote it"
            " where runs name it as their host, or choose another"
        )


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
            volumes = tuple(volume_flags(flags.volumes))
            for volume in volumes:
                if not is_volume(volume) or not _is_utf_8(volume):
                    _flag(problems, "--volumes", volume, VOLUME)
            return dataclasses.replace(backend, volumes=(*backend.volumes, *volumes))
        case KubernetesConfig():
            values = _resolved(backend.environment, environ, backend, problems)
            pairs = tuple(EnvEntry(name, value.reveal()) for name, value in values.items())
            return dataclasses.replace(backend, environment=pairs)
        case CommandConfig():
            return backend


def _resolved(
    entries: Iterable[EnvEntry], environ: Mapping[str, str], backend: BackendConfig, problems: Problems
) -> dict[str, Secret]:
    """The value of each entry, the last one of a name. One that names an unset variable is empty."""
    found: dict[str, Secret] = {}
    for entry in entries:
        value = environ.get(entry.name) if entry.value is None else entry.value
        if value is None:
            what = 'the worker itself does not have this variable: tasks get it as ""'
            problems.warnings.append(f"{entry.place}{what}")
        elif not isinstance(backend, DirectConfig | CommandConfig) and not _is_utf_8(entry.name + value):
            # A process takes any bytes; the APIs of Kubernetes and Docker take UTF-8.
            problems.found.append(f"{entry.place}this is not UTF-8 (it is not shown here)")
        found[entry.name] = Secret(value or "")
    return found


def _is_utf_8(text: str) -> bool:
    """Whether text of the command line or the environment was UTF-8 (PEP 383)."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def _check_idle(idle: str | None, problems: Problems) -> None:
    if idle and is_no_duration(idle):
        _flag(problems, "--idle-on-complete", idle, "a duration such as 45m or 0s")
    elif idle and (what := idle_warning(idle)):
        problems.warn("--idle-on-complete", None, what)


def _url(flag: str, value: str | None, problems: Problems, *schemes: str) -> str | None:
    if not value:
        return None
    try:
        parts = urlsplit(value)
        sound = (
            not _is_broken(value)
            and parts.scheme in schemes
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        sound = False
    if not sound:
        _flag(problems, flag, value, "a URL that begins with " + " or ".join(f"{s}://" for s in schemes))
    return value


def _flag(problems: Problems, flag: str, read: str, allowed: str) -> None:
    problems.found.append(f"{flag}: read {read!r}, allowed is {allowed}")


def _without_effect(flags: WorkerFlags, file: FileConfig, name: str, problems: Problems) -> Iterable[str]:
    if flags.volumes and name != "docker":
        yield f"--volumes has no effect: it is for the docker backend, and this is {name}"
    if flags.target_dir and name != "direct":
        yield f"--target-dir has no effect: it is for the direct backend, and this is {name}"
    for other in file.backend:
        if other != name:
            path = f"backend.{other}"
            yield f"{problems.line_of(path)}{path} has no effect: --backend chose {name}"

from pathlib import Path
from typing import Any

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.errors import ConfigError, ExitCode
from oz_agent_worker.worker.config.load import (
    DEFAULT_SERVER_ROOT_URL,
    DEFAULT_WEB_SOCKET_URL,
    WorkerConfig,
    WorkerFlags,
    parse_file,
    read_file,
    resolve,
)
from oz_agent_worker.worker.config.nodes import Problems
from oz_agent_worker.worker.config.schema import (
    BACKEND_SECTIONS,
    CommandConfig,
    DirectConfig,
    DockerConfig,
    FileConfig,
    KubernetesConfig,
)
from oz_agent_worker.worker.config.shapes import VOLUME, EnvEntry

CANARY = "canary-c3d9"
GIVEN: dict[str, Any] = {"worker_id": "w", "api_key": Secret("k")}


def _joined(
    file: str = "", environ: dict[str, str] | None = None, *, needs_key: bool = True, **flags: Any
) -> tuple[WorkerConfig, list[str]]:
    """The configuration of a file and some flags, and its problems."""
    config, problems = parse_file(file or "{}", "f.yaml")
    given = {**GIVEN, **flags} if needs_key else flags
    return resolve(WorkerFlags(**given), config, problems, environ or {}, needs_key=needs_key), problems.found


def _config(file: str = "", environ: dict[str, str] | None = None, **flags: Any) -> WorkerConfig:
    config, problems = _joined(file, environ, **flags)
    assert problems == []
    return config


def _problems(file: str = "", environ: dict[str, str] | None = None, **flags: Any) -> list[str]:
    return _joined(file, environ, **flags)[1]


# --------------------------------------------------------------------------------- reading


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "worker.yaml"
    path.write_text("worker_id: wörker\n", encoding="utf-8")
    config, problems = read_file(str(path))
    assert (config, problems.found, problems.source) == (FileConfig(worker_id="wörker"), [], str(path))


@pytest.mark.parametrize("content", ["", "\n\n", "# nothing but a comment\n"])
def test_an_empty_file_is_refused(content: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_file(content, "f.yaml")
    assert str(caught.value) == "f.yaml: this file is empty: give it a key, or leave --config-file out"


@pytest.mark.parametrize("content", ["---\n", "null\n", "{}"])
def test_an_empty_document_is_all_defaults(content: str) -> None:
    config, problems = parse_file(content, "f.yaml")
    assert (config, problems.found) == (FileConfig(), [])


def test_a_byte_order_mark_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "worker.yaml"
    path.write_bytes(b"\xef\xbb\xbfworker_id: w\n")
    assert read_file(str(path))[0] == FileConfig(worker_id="w")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "missing.yaml"
    with pytest.raises(ConfigError) as caught:
        read_file(str(path))
    assert str(caught.value) == f"config file {path}: no such file"
    assert caught.value.exit_code is ExitCode.USAGE
    assert int(ExitCode.USAGE) == 2


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: .*Is a directory"):
        read_file(str(tmp_path))


def test_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "worker.yaml"
    path.write_bytes(b"worker_id: \xff" + CANARY.encode())
    with pytest.raises(ConfigError, match=r"worker\.yaml cannot be read: 'utf-8' codec") as caught:
        read_file(str(path))
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("a: [1\nb: 2\n", "f.yaml:2: this is not YAML: expected ',' or ']', but got ':'"),
        ("a: *nowhere\n", "f.yaml:1: this is not YAML: found undefined alias 'nowhere'"),
        ("\ta: 1\n", "f.yaml:1: this is not YAML: found character '\\t' that cannot start any token"),
    ],
)
def test_what_is_no_yaml(content: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_file(content, "f.yaml")
    assert str(caught.value) == text


def _error_of(content: str) -> str:
    """The error message about a file, from whichever check gives it."""
    try:
        _, problems = parse_file(content, "f.yaml")
    except ConfigError as error:
        return str(error)
    return "\n".join(problems.found)


@pytest.mark.parametrize("content", ["a: \0\n", "[" * 5_000, "a: &a\n  b: *a\nbackend: &b\n  docker: *b\n"])
def test_what_no_parser_should_choke_on(content: str) -> None:
    assert _error_of(content).startswith("f.yaml")


@pytest.mark.parametrize(
    "content",
    [
        "backend: {docker: {volumes: &v [*v]}}",
        "backend: {docker: &d {environment: [*d]}}",
        "backend: &b {kubernetes: *b}",
        "backend: {kubernetes: {pod_template: &p {spec: [*p]}}}",
        "backend: {kubernetes: {tolerations: &t [*t]}}",
    ],
)
def test_a_recursive_alias_is_an_error(content: str) -> None:
    assert _error_of(content).startswith("f.yaml")


def test_two_backends_are_one_too_many() -> None:
    _, problems = parse_file("worker_id: w\nbackend:\n  docker: {}\n  kubernetes: {namespace: a}\n", "f.yaml")
    assert problems.found == [
        "f.yaml:3: backend: backend.docker and backend.kubernetes are set, "
        "but a worker has one backend: keep one of them"
    ]


# -------------------------------------------------------------------------------- identity


@pytest.mark.parametrize("worker_id", ["warp", "warp-1", "warped"])
def test_ids_that_begin_with_warp_are_reserved(worker_id: str) -> None:
    expected = [f"worker ID {worker_id!r}: IDs that begin with `warp` are reserved"]
    assert _problems(worker_id=worker_id) == expected
    assert _problems(f"worker_id: {worker_id}", worker_id=None) == [f"f.yaml:1: {expected[0]}"]


def test_an_id_that_holds_warp_elsewhere_is_fine() -> None:
    assert _config(worker_id="my-warp").worker_id == "my-warp"


@pytest.mark.parametrize("worker_id", ["a\n", "a\x1b", "a\x85", "a\udcff", "\ud83c"])
def test_an_id_has_no_control_characters_and_no_bytes_that_are_no_text(worker_id: str) -> None:
    assert _problems(worker_id=worker_id) == [
        f"worker ID {worker_id!r}: control characters, and bytes that are not UTF-8, are not allowed"
    ]


def test_an_id_and_a_key_are_required() -> None:
    assert _problems(worker_id=None, api_key=None) == [
        "a worker ID is required: give --worker-id, or worker_id in the config file",
        "an API key is required: set WARP_API_KEY (or give --api-key)",
    ]


@pytest.mark.parametrize("key", ["", "  ", "\n"])
def test_an_empty_key_is_no_key(key: str) -> None:
    assert _problems(api_key=Secret(key)) == ["an API key is required: set WARP_API_KEY (or give --api-key)"]


def test_a_key_may_end_with_a_line_break() -> None:
    assert _config(api_key=Secret(" abc\n")).api_key == Secret("abc")


@pytest.mark.parametrize("key", [f"{CANARY} x", f"{CANARY}\r\nX: y", f"\x1b{CANARY}"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(key: str) -> None:
    assert _problems(api_key=Secret(key)) == [
        "the API key contains white space or control characters (it is not shown here)"
    ]


def test_neither_is_asked_for_where_nothing_connects() -> None:
    config, problems = _joined("backend: {kubernetes: {}}", needs_key=False)
    assert problems == []
    assert (config.worker_id, config.api_key) == ("worker", Secret(""))


# ------------------------------------------------------------------------------ precedence


def test_defaults() -> None:
    assert _config() == WorkerConfig(
        worker_id="w",
        api_key=Secret("k"),
        backend=DockerConfig(),
        backend_name="docker",
        cleanup=True,
        max_concurrent_tasks=0,
        idle_on_complete=None,
        environment={},
        web_socket_url=DEFAULT_WEB_SOCKET_URL,
        server_root_url=DEFAULT_SERVER_ROOT_URL,
        session_sharing_server_url=None,
        warnings=(),
    )
    assert DEFAULT_WEB_SOCKET_URL == "wss://oz.warp.dev/api/v1/selfhosted/worker/ws"


FILE = """
worker_id: from-file
cleanup: false
max_concurrent_tasks: 4
idle_on_complete: 10m
backend: {direct: {target_dir: /from-file, environment: [{name: A, value: file}, {name: B, value: file}]}}
"""


def test_the_file_beats_the_defaults() -> None:
    config = _config(FILE, worker_id=None)
    assert config == WorkerConfig(
        worker_id="from-file",
        api_key=Secret("k"),
        backend=DirectConfig(
            target_dir="/from-file", environment=(EnvEntry("A", "file"), EnvEntry("B", "file"))
        ),
        backend_name="direct",
        cleanup=False,
        max_concurrent_tasks=4,
        idle_on_complete="10m",
        environment={"A": Secret("file"), "B": Secret("file")},
        web_socket_url=DEFAULT_WEB_SOCKET_URL,
        server_root_url=DEFAULT_SERVER_ROOT_URL,
        session_sharing_server_url=None,
    )


def test_a_flag_beats_the_file() -> None:
    config = _config(
        FILE,
        worker_id="from-flag",
        max_concurrent_tasks=9,
        idle_on_complete="0s",
        target_dir="/from-flag",
        env=("A=flag",),
        web_socket_url="ws://127.0.0.1:1/ws",
        server_root_url="http://127.0.0.1:1",
        session_sharing_server_url="wss://share.test",
    )
    assert isinstance(config.backend, DirectConfig)
    assert (
        config.worker_id, config.max_concurrent_tasks, config.idle_on_complete, config.backend.target_dir,
        config.environment, config.web_socket_url, config.server_root_url, config.session_sharing_server_url,
    ) == (
        "from-flag", 9, "0s", "/from-flag", {"A": Secret("flag"), "B": Secret("file")},
        "ws://127.0.0.1:1/ws", "http://127.0.0.1:1", "wss://share.test",
    )  # fmt: skip


def test_zero_and_empty_flags_count_as_not_given() -> None:
    empty = _config(
        FILE,
        worker_id="",
        max_concurrent_tasks=0,
        idle_on_complete="",
        target_dir="",
        backend="",
        config_file="",
        web_socket_url="",
        server_root_url="",
        session_sharing_server_url="",
    )
    assert empty == _config(FILE, worker_id=None)


@pytest.mark.parametrize(
    ("cleanup", "flag", "expected"), [("true", True, False), ("true", False, True), ("false", False, False)]
)
def test_no_cleanup_beats_cleanup(cleanup: str, flag: bool, expected: bool) -> None:
    assert _config(f"cleanup: {cleanup}", no_cleanup=flag).cleanup is expected


# -------------------------------------------------------------------------------- backends


@pytest.mark.parametrize("name", ["docker", "direct", "kubernetes"])
def test_a_backend_by_its_flag(name: str) -> None:
    config = _config(backend=name)
    assert (config.backend_name, config.backend) == (name, BACKEND_SECTIONS[name]())


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("docker: {}", DockerConfig()),
        ("direct: {}", DirectConfig()),
        ("kubernetes:", KubernetesConfig()),
        ("command: {dispatch_command: go}", CommandConfig(dispatch_command="go")),
    ],
)
def test_the_file_s_one_backend(section: str, expected: object) -> None:
    config = _config(f"backend: {{{section}}}")
    assert config.backend == expected
    assert BACKEND_SECTIONS[config.backend_name] is type(expected)


def test_the_flag_chooses_the_file_s_section_of_that_name() -> None:
    config = _config("backend: {kubernetes: {namespace: a}}", backend="kubernetes")
    assert config.backend == KubernetesConfig(namespace="a")


def test_the_command_backend_needs_its_command() -> None:
    assert _problems(backend="command") == [
        "backend.command.dispatch_command is required for --backend command: give it in the config file"
    ]


def test_an_unknown_backend() -> None:
    assert _problems(backend="podman") == [
        "--backend: read 'podman', allowed is one of docker, direct, kubernetes, command"
    ]


def test_volumes_are_added_to_the_file_s() -> None:
    config = _config("backend: {docker: {volumes: ['/a:/b']}}", volumes=("/c:/d:ro", "named:/e"))
    assert config.backend == DockerConfig(volumes=("/a:/b", "/c:/d:ro", "named:/e"))


@pytest.mark.parametrize("volume", ["", "a", "/a:", ":/b", "/a:b", "/a:/b:rx", "/a:/b:ro:z", "/a:/b:"])
def test_volumes_that_cannot_be_mounted(volume: str) -> None:
    assert _problems(volumes=(volume,)) == [f"--volumes: read {volume!r}, allowed is {VOLUME}"]


@pytest.mark.parametrize(
    ("file", "flags", "warnings"),
    [
        ("", {"volumes": ("/a:/b",)}, ()),
        ("", {"volumes": ("/a:/b",), "backend": "direct"},
         ("--volumes has no effect: it is for the docker backend, and this is direct",)),
        ("", {"target_dir": "/d", "backend": "direct"}, ()),
        ("", {"target_dir": "/d", "backend": "kubernetes"},
         ("--target-dir has no effect: it is for the direct backend, and this is kubernetes",)),
        ("backend: {kubernetes: {}}", {"backend": "direct"},
         ("f.yaml:1: backend.kubernetes has no effect: --backend chose direct",)),
    ],
)  # fmt: skip
def test_settings_without_effect_are_noted(
    file: str, flags: dict[str, Any], warnings: tuple[str, ...]
) -> None:
    assert _config(file, **flags).warnings == warnings


# ------------------------------------------------------------------------------ environment


@pytest.mark.parametrize(
    ("entries", "environ", "expected"),
    [
        (("A=1",), {}, {"A": "1"}),
        (("A=",), {"A": "own"}, {"A": ""}),
        (("A=b=c d",), {}, {"A": "b=c d"}),
        (("A",), {"A": "own"}, {"A": "own"}),
        (("A",), {"A": ""}, {"A": ""}),
        (("A",), {"B": "own"}, {"A": ""}),
        (("A=1", "A=2"), {}, {"A": "2"}),
        (("A=1", "A"), {"A": "own"}, {"A": "own"}),
    ],
)
def test_env_flags(entries: tuple[str, ...], environ: dict[str, str], expected: dict[str, str]) -> None:
    config = _config(environ=environ, env=entries)
    assert config.environment == {name: Secret(value) for name, value in expected.items()}


@pytest.mark.parametrize("entry", ["", f"={CANARY}", f"A B={CANARY}", f" A={CANARY}", f"\tA={CANARY}", "A B"])
def test_env_flags_that_name_no_variable(entry: str) -> None:
    assert _problems(env=(entry,), environ={"A B": CANARY}) == [
        "--env: an entry is empty, or its key is empty or contains white space; "
        "allowed is KEY=VALUE, or KEY to pass the worker's own value on"
    ]


def test_each_bad_entry_is_a_problem_of_its_own() -> None:
    assert len(_problems(env=("", "GOOD=1", "=x"))) == 2


def test_the_file_s_entries_take_the_worker_s_own_values_too() -> None:
    file = "backend: {direct: {environment: [{name: A, value: b}, {name: FROM_HOST}, {name: GONE}]}}"
    config = _config(file, {"FROM_HOST": "own"}, env=("A",))
    assert config.environment == {"A": Secret(""), "FROM_HOST": Secret("own"), "GONE": Secret("")}


def test_kubernetes_keeps_its_shorthand_with_the_values_filled_in() -> None:
    file = "backend: {kubernetes: {environment: [{name: A, value: b}, {name: FROM_HOST}, {name: GONE}]}}"
    config = _config(file, {"FROM_HOST": "own"}, env=("B=c",))
    assert isinstance(config.backend, KubernetesConfig)
    assert config.backend.environment == (
        EnvEntry("A", "b"),
        EnvEntry("FROM_HOST", "own"),
        EnvEntry("GONE", ""),
    )
    assert config.environment == {"B": Secret("c")}


def test_no_secret_shows_in_a_configuration() -> None:
    file = f"backend: {{kubernetes: {{environment: [{{name: A, value: {CANARY}}}]}}}}"
    config = _config(file, api_key=Secret(CANARY), env=(f"B={CANARY}",))
    assert CANARY not in repr(config)


# ------------------------------------------------------------------------------ other flags


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        ({"idle_on_complete": "soon"},
         "--idle-on-complete: read 'soon', allowed is a duration such as 45m or 0s"),
        ({"web_socket_url": "https://x"},
         "--web-socket-url: read 'https://x', allowed is a URL that begins with wss:// or ws://"),
        ({"web_socket_url": "ws://"},
         "--web-socket-url: read 'ws://', allowed is a URL that begins with wss:// or ws://"),
        ({"web_socket_url": "ws://h:99999"},
         "--web-socket-url: read 'ws://h:99999', allowed is a URL that begins with wss:// or ws://"),
        ({"server_root_url": "ftp://x"},
         "--server-root-url: read 'ftp://x', allowed is a URL that begins with https:// or http://"),
        ({"server_root_url": "http://x\udcff"},
         "--server-root-url: read 'http://x\\udcff', allowed is a URL that begins with https:// or http://"),
        ({"server_root_url": "http://[x"},
         "--server-root-url: read 'http://[x', allowed is a URL that begins with https:// or http://"),
        ({"session_sharing_server_url": "x"},
         "--session-sharing-server-url: read 'x', allowed is a URL that begins with "
         "https:// or http:// or wss:// or ws://"),
    ],
)  # fmt: skip
def test_flags_that_are_not_allowed(flags: dict[str, Any], problem: str) -> None:
    assert _problems(**flags) == [problem]


def test_file_and_flags_show_their_errors_together() -> None:
    file = "max_concurrent_tasks: many\nnope: 1\n"
    found = _problems(file, worker_id="warp-1", api_key=None, env=("=x",), idle_on_complete="x")
    assert len(found) == 6
    assert [problem.startswith("f.yaml:") for problem in found] == [True, True, False, False, False, False]


def test_problems_of_the_command_line_need_no_file() -> None:
    problems = Problems("command line")
    resolve(WorkerFlags(**{**GIVEN, "worker_id": None}), FileConfig(), problems, {})
    assert problems.found == ["a worker ID is required: give --worker-id, or worker_id in the config file"]

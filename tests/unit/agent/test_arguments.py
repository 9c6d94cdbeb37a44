import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.agent.arguments import HelpCommand, RunCommand, VersionCommand, parse_command
from oz_agent_worker.agent.errors import UsageError

# What the worker writes: values are trimmed and never empty, and may begin with a dash.
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: text == text.strip() and text
)
OPTIONAL = st.none() | VALUES
MINUTES = st.none() | st.integers(1, 10_000).map(lambda n: f"{n}m") | st.sampled_from(["0s", "1h30m", ""])


def run(*arguments: str) -> RunCommand:
    command = parse_command(["agent", "run", *arguments])
    assert isinstance(command, RunCommand)
    return command


@given(
    team=st.booleans(),
    task_id=VALUES,
    url=VALUES,
    model=OPTIONAL,
    profile=OPTIONAL,
    skill=OPTIONAL,
    servers=st.none() | st.dictionaries(VALUES, st.just({"command": "x"}), min_size=1),
    computer_use=st.none() | st.booleans(),
    role=OPTIONAL,
    region=OPTIONAL,
    harness=OPTIONAL,
    access=st.sampled_from(["public:view", "public:edit", None]),
    snapshot=st.booleans(),
    upload=st.none() | st.integers(1, 10**6),
    environment=OPTIONAL,
    extra=st.lists(st.from_regex(r"--zz-[a-z]{1,8}", fullmatch=True)),
    idle=MINUTES,
    sharing=OPTIONAL,
)
def test_everything_that_a_worker_can_build_is_understood(
    team: bool,
    task_id: str,
    url: str,
    model: str | None,
    profile: str | None,
    skill: str | None,
    servers: dict[str, object] | None,
    computer_use: bool | None,
    role: str | None,
    region: str | None,
    harness: str | None,
    access: str | None,
    snapshot: bool,
    upload: int | None,
    environment: str | None,
    extra: list[str],
    idle: str | None,
    sharing: str | None,
) -> None:
    argv = ["--share", "team:edit"] if team else []
    argv += ["--task-id", task_id, "--sandboxed", "--server-root-url", url]
    for flag, value in [("--model", model), ("--profile", profile), ("--skill", skill)]:
        argv += [flag, value] if value else []
    argv += ["--mcp", json.dumps(servers)] if servers else []
    if computer_use is not None:
        argv.append("--computer-use" if computer_use else "--no-computer-use")
    for flag, value in [("--bedrock-inference-role", role), ("--bedrock-role-region", region)]:
        argv += [flag, value] if value else []
    argv += ["--harness", harness] if harness else []
    argv += ["--share", access] if access else []
    argv += [] if snapshot else ["--no-snapshot"]
    argv += ["--snapshot-upload-timeout", f"{upload}s"] if upload else []
    argv += ["--environment", environment] if environment else []
    argv += extra
    argv += [] if idle is None else ["--idle-on-complete", *([idle] if idle else [])]
    argv += ["--session-sharing-server-url", sharing] if sharing else []

    command = run(*argv)

    assert command.task_id == task_id
    assert command.server_root_url == url
    assert command.sandboxed
    assert (command.model, command.profile, command.skill) == (model, profile, skill)
    assert [json.loads(text) for text in command.mcp] == ([servers] if servers else [])
    assert command.computer_use is computer_use
    assert (command.bedrock_inference_role, command.bedrock_role_region) == (role, region)
    assert command.harness == harness
    assert command.share == (("team:edit",) if team else ()) + ((access,) if access else ())
    assert command.snapshot is snapshot
    assert command.snapshot_upload_timeout == upload
    assert command.environment == environment
    assert command.unknown == tuple(dict.fromkeys(extra))
    assert command.idle_on_complete is (idle is not None)
    assert (command.idle_timeout is None) is (not idle)
    assert command.session_sharing_server_url == sharing


@given(st.lists(st.text()))
def test_no_command_line_crashes(argv: list[str]) -> None:
    for arguments in (argv, ["agent", "run", *argv]):
        with suppress(UsageError):
            parse_command(arguments)


@pytest.mark.parametrize(
    ("arguments", "timeout", "rest"),
    [
        (["--idle-on-complete"], None, None),
        (["--idle-on-complete", "45m"], 2700, None),
        (["--idle-on-complete", "0s"], 0, None),
        (["--idle-on-complete=1h30m"], 5400, None),
        (["--idle-on-complete", "--session-sharing-server-url", "wss://s"], None, "wss://s"),
        (["--idle-on-complete", "1h", "--session-sharing-server-url", "wss://s"], 3600, "wss://s"),
    ],
)
def test_idle_on_complete(arguments: list[str], timeout: float | None, rest: str | None) -> None:
    command = run(*arguments)
    assert command.idle_on_complete
    assert command.idle_timeout == timeout
    assert command.session_sharing_server_url == rest


def test_unknown_arguments_are_named_once_and_without_their_values() -> None:
    command = run("--token=secret", "--new", "value", "more", "--new", "-x", "--sandboxed", "stray")
    assert command.unknown == ("--token", "--new", "-x", "a value without a flag")
    assert command.sandboxed


def test_a_value_may_look_like_a_flag() -> None:
    assert run("--skill", "--sandboxed").skill == "--sandboxed"
    assert not run("--skill", "--sandboxed").sandboxed


def test_the_last_value_wins_and_blank_ones_count_as_absent() -> None:
    assert run("--model", "a", "--model", " b ", "--model", "  ").model == "b"
    assert run("--harness", "").harness is None


def test_an_explicit_off_wins_for_computer_use() -> None:
    assert run("--computer-use", "--no-computer-use").computer_use is False


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["agent", "run", "--task-id"], "--task-id needs a value: --task-id ID"),
        (["agent", "run", "--sandboxed=yes"], "--sandboxed takes no value"),
        (["agent", "run", "--idle-on-complete", "banana"], "--idle-on-complete: 'banana'"),
        (["agent", "run", "--snapshot-upload-timeout", "9"], "--snapshot-upload-timeout: '9'"),
        ([], "no command"),
        (["agents", "run"], "unknown command 'agents run'"),
        (["agent"], "unknown command 'agent'"),
    ],
)
def test_what_is_refused(arguments: list[str], text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_command(arguments)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--help"], HelpCommand(of_run=False)),
        (["-h"], HelpCommand(of_run=False)),
        (["agent", "--help"], HelpCommand(of_run=False)),
        (["agent", "run", "--task-id", "x", "--help"], HelpCommand(of_run=True)),
        (["--version"], VersionCommand()),
        (["-V"], VersionCommand()),
    ],
)
def test_help_and_version(arguments: list[str], command: object) -> None:
    assert parse_command(arguments) == command

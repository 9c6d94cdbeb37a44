import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker import __version__
from oz_agent_worker.agent.arguments import RunCommand, is_duration, parse_command
from oz_agent_worker.agent.errors import AgentUsageError
from oz_agent_worker.agent.help_text import PROGRAM_HELP, run_help

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
def test_every_command_line_of_a_worker_is_parsed(
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

    assert command == RunCommand(
        task_id=task_id,
        server_root_url=url,
        harness=harness or "",
        model=model or "",
        mcp=(json.dumps(servers),) if servers else (),
        sandboxed=True,
        unsupported=tuple(
            flag
            for flag, value in [
                ("--skill", skill), ("--profile", profile), ("--bedrock-inference-role", role),
            ]
            if value
        ),
        unknown=tuple(dict.fromkeys(extra)),
    )  # fmt: skip


@given(st.lists(st.text()))
def test_no_command_line_crashes(argv: list[str]) -> None:
    for arguments in (argv, ["agent", "run", *argv]):
        with suppress(AgentUsageError):
            parse_command(arguments)


@pytest.mark.parametrize(
    "arguments", [[], ["45m"], ["0s"], ["--no-snapshot"], ["1h", "--session-sharing-server-url", "wss://s"]]
)
def test_idle_on_complete_takes_a_duration_or_nothing(arguments: list[str]) -> None:
    assert run("--idle-on-complete", *arguments, "--model", "m") == RunCommand(model="m")
    assert run("--idle-on-complete=1h30m", *arguments[1:]) == RunCommand()


@pytest.mark.parametrize(
    "text", ["0", "0s", "45m", "1h30m", "1h 30m", "90 sec", "250ms", "2days", "1M", "9" * 5000 + "y"]
)
def test_durations(text: str) -> None:
    assert is_duration(text)


@pytest.mark.parametrize("text", ["", " ", "45", "m", "45x", "1h30", "-1s", "1.5h", "45m!", "٤s"])
def test_invalid_durations(text: str) -> None:
    assert not is_duration(text)


def test_unknown_arguments_are_named_once_and_without_their_values() -> None:
    command = run("--token=secret", "--new", "value", "more", "--new", "-x", "--sandboxed", "stray")
    assert command.unknown == ("--token", "--new", "-x", "a value without a flag")
    assert command.sandboxed


def test_a_value_may_look_like_a_flag() -> None:
    assert run("--model", "--sandboxed") == RunCommand(model="--sandboxed")


def test_the_last_value_wins_and_blank_ones_count_as_absent() -> None:
    assert run("--model", "a", "--model", " b ", "--model", "  ").model == "b"
    assert run("--harness", "", "--skill", " ") == RunCommand()


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
def test_invalid_command_lines(arguments: list[str], text: str) -> None:
    with pytest.raises(AgentUsageError) as caught:
        parse_command(arguments)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--help"], PROGRAM_HELP),
        (["-h"], PROGRAM_HELP),
        (["agent", "--help"], PROGRAM_HELP),
        (["agent", "run", "--task-id", "x", "--help"], run_help()),
        (["--version"], f"oz-agent {__version__}\n"),
        (["-V"], f"oz-agent {__version__}\n"),
    ],
)
def test_help_and_version(arguments: list[str], text: str) -> None:
    assert parse_command(arguments) == text

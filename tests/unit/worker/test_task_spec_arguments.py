"""The agent's command line, sentence by sentence of the protocol."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import AssignmentError
from oz_agent_worker.worker.task_spec import TaskSettings, agent_arguments, build_task_spec
from tests.unit.protocol.frames import parsed

ROOT = "https://oz.test"
SETTINGS = TaskSettings(server_root_url=ROOT)
CANARY = "canary-41f0"


def _arguments(
    snapshot: dict[str, Any] | None = None,
    *,
    settings: TaskSettings = SETTINGS,
    owner: str | None = None,
    **data: Any,
) -> list[str]:
    task: dict[str, Any] = {"id": "run-1", "agent_config_snapshot": snapshot, "owner": {"Type": owner}}
    return list(agent_arguments(parsed(task=task, **data), settings))


def _line(*middle: str, last: tuple[str, ...] = ("--idle-on-complete",)) -> list[str]:
    """A whole command line with ``middle`` in place of the snapshot's arguments."""
    head = ("agent", "run", "--task-id", "run-1", "--sandboxed", "--server-root-url", ROOT)
    return [*head, *middle, *last]


# ------------------------------------------------------------------------ the whole line


def test_the_whole_command_line_in_order() -> None:
    snapshot = {
        "environment_id": "env-1",
        "model_id": "opus",
        "profile_id": "prof",
        "skill_spec": "repo:skill",
        "mcp_servers": {"b": {"url": "u"}, "a": {"command": "x"}},
        "computer_use_enabled": False,
        "idle_timeout_minutes": 30,
        "harness": {"type": "oz"},
        "inference_providers": {"aws": {"role_arn": "arn:1", "region": "eu-west-1"}},
        "session_sharing": {"public_access": "EDITOR"},
        "snapshot_disabled": True,
        "snapshot_upload_timeout_secs": 11,
        "snapshot_script_timeout_secs": 12,
    }
    settings = replace(SETTINGS, idle_on_complete="5m", session_sharing_server_url="wss://share.test")
    assert _arguments(snapshot, settings=settings, owner="TEAM", additional_oz_args=["--more", "x"]) == [
        "agent",
        "run",
        "--share",
        "team:edit",
        "--task-id",
        "run-1",
        "--sandboxed",
        "--server-root-url",
        ROOT,
        "--model",
        "opus",
        "--profile",
        "prof",
        "--skill",
        "repo:skill",
        "--mcp",
        '{"a":{"command":"x"},"b":{"url":"u"}}',
        "--no-computer-use",
        "--bedrock-inference-role",
        "arn:1",
        "--bedrock-role-region",
        "eu-west-1",
        "--harness",
        "oz",
        "--share",
        "public:edit",
        "--no-snapshot",
        "--snapshot-upload-timeout",
        "11s",
        "--snapshot-script-timeout",
        "12s",
        "--environment",
        "env-1",
        "--more",
        "x",
        "--idle-on-complete",
        "30m",
        "--session-sharing-server-url",
        "wss://share.test",
    ]


def test_without_a_snapshot_only_the_arguments_outside_the_list_appear() -> None:
    settings = replace(SETTINGS, idle_on_complete="5m", session_sharing_server_url="wss://share.test")
    assert _arguments(settings=settings, owner="TEAM", additional_oz_args=["--more"]) == [
        "agent",
        "run",
        "--share",
        "team:edit",
        "--task-id",
        "run-1",
        "--sandboxed",
        "--server-root-url",
        ROOT,
        "--more",
        "--idle-on-complete",
        "5m",
        "--session-sharing-server-url",
        "wss://share.test",
    ]


def test_the_least_command_line() -> None:
    assert _arguments() == _line()


# --------------------------------------------------------------- the snapshot's arguments

ON, OFF = "--computer-use", "--no-computer-use"
CLAUDE = {"harness": {"type": "claude"}}

SNAPSHOTS: list[tuple[str, dict[str, Any], tuple[str, ...]]] = [
    ("an empty one", {}, (ON,)),
    # --model only for the built-in harness (type absent, empty or `oz`)
    ("model, no harness", {"model_id": "m"}, ("--model", "m", ON)),
    ("model, harness empty", {"model_id": "m", "harness": {"type": ""}}, ("--model", "m", ON)),
    ("model, harness blank", {"model_id": "m", "harness": {"type": " "}}, ("--model", "m", ON)),
    (
        "model, harness oz",
        {"model_id": "m", "harness": {"type": "oz"}},
        ("--model", "m", ON, "--harness", "oz"),
    ),
    ("model, another harness", {"model_id": "m", **CLAUDE}, (OFF, "--harness", "claude")),
    ("model empty", {"model_id": "  "}, (ON,)),
    # --profile, --skill, --mcp where not empty
    ("profile", {"profile_id": "p"}, ("--profile", "p", ON)),
    (
        "profile, another harness",
        {"profile_id": "p", **CLAUDE},
        ("--profile", "p", OFF, "--harness", "claude"),
    ),
    ("profile empty", {"profile_id": ""}, (ON,)),
    ("skill", {"skill_spec": "s"}, ("--skill", "s", ON)),
    ("skill empty", {"skill_spec": " "}, (ON,)),
    ("mcp", {"mcp_servers": {"a": {"url": "u"}}}, ("--mcp", '{"a":{"url":"u"}}', ON)),
    ("mcp empty", {"mcp_servers": {}}, (ON,)),
    (
        "mcp keeps values raw",
        {"mcp_servers": {"a": [1, 2.50, None, "x"]}},
        ("--mcp", '{"a":[1,2.5,null,"x"]}', ON),
    ),
    # an explicit value wins; unset means on for the built-in harness, off for any other
    ("computer use on", {"computer_use_enabled": True}, (ON,)),
    ("computer use off", {"computer_use_enabled": False}, (OFF,)),
    (
        "computer use on, another harness",
        {"computer_use_enabled": True, **CLAUDE},
        (ON, "--harness", "claude"),
    ),
    (
        "computer use off, another harness",
        {"computer_use_enabled": False, **CLAUDE},
        (OFF, "--harness", "claude"),
    ),
    ("computer use unset, another harness", CLAUDE, (OFF, "--harness", "claude")),
    # --bedrock-inference-role (not when disabled), and then the region where set
    ("role", {"inference_providers": {"aws": {"role_arn": "r"}}}, (ON, "--bedrock-inference-role", "r")),
    (
        "role and region",
        {"inference_providers": {"aws": {"role_arn": "r", "region": "e", "disabled": False}}},
        (ON, "--bedrock-inference-role", "r", "--bedrock-role-region", "e"),
    ),
    (
        "role disabled",
        {"inference_providers": {"aws": {"role_arn": "r", "region": "e", "disabled": True}}},
        (ON,),
    ),
    ("region alone", {"inference_providers": {"aws": {"region": "e"}}}, (ON,)),
    ("role blank", {"inference_providers": {"aws": {"role_arn": " ", "region": "e"}}}, (ON,)),
    ("no aws", {"inference_providers": {}}, (ON,)),
    # --harness where set; --share for VIEWER or EDITOR, nothing for any other value
    ("harness", {"harness": {"type": " codex "}}, (OFF, "--harness", "codex")),
    ("viewer", {"session_sharing": {"public_access": "VIEWER"}}, (ON, "--share", "public:view")),
    ("editor", {"session_sharing": {"public_access": " EDITOR "}}, (ON, "--share", "public:edit")),
    ("another access", {"session_sharing": {"public_access": "OWNER"}}, (ON,)),
    ("lower case", {"session_sharing": {"public_access": "viewer"}}, (ON,)),
    ("no access", {"session_sharing": {"public_access": ""}}, (ON,)),
    # --no-snapshot; the time-outs (positive values only); --environment
    ("no snapshot", {"snapshot_disabled": True}, (ON, "--no-snapshot")),
    ("snapshot", {"snapshot_disabled": False}, (ON,)),
    ("upload", {"snapshot_upload_timeout_secs": 90}, (ON, "--snapshot-upload-timeout", "90s")),
    ("upload zero", {"snapshot_upload_timeout_secs": 0}, (ON,)),
    ("upload negative", {"snapshot_upload_timeout_secs": -5}, (ON,)),
    ("script", {"snapshot_script_timeout_secs": 1}, (ON, "--snapshot-script-timeout", "1s")),
    ("script zero", {"snapshot_script_timeout_secs": 0}, (ON,)),
    ("environment", {"environment_id": " e "}, (ON, "--environment", "e")),
    ("environment empty", {"environment_id": ""}, (ON,)),
    # Without an argument of its own.
    ("the rest", {"base_prompt": "b", "harness_auth_secrets": {"claude_auth_secret_name": "n"}}, (ON,)),
]


@pytest.mark.parametrize(
    ("snapshot", "middle"), [case[1:] for case in SNAPSHOTS], ids=[case[0] for case in SNAPSHOTS]
)
def test_the_snapshot_s_arguments(snapshot: dict[str, Any], middle: tuple[str, ...]) -> None:
    assert _arguments(snapshot) == _line(*middle)


def test_values_are_trimmed() -> None:
    snapshot = {"model_id": " m\n", "profile_id": "\tp ", "skill_spec": " s ", "environment_id": " e"}
    expected = ("--model", "m", "--profile", "p", "--skill", "s", ON, "--environment", "e")
    assert _arguments(snapshot) == _line(*expected)


# ------------------------------------------------------------------- outside the snapshot


@pytest.mark.parametrize(("owner", "shared"), [("TEAM", True), ("USER", False), (None, False), ("", False)])
def test_a_team_s_run_is_shared_with_the_team(owner: str | None, shared: bool) -> None:
    expected = _line()
    if shared:
        expected[2:2] = ["--share", "team:edit"]
    assert _arguments(owner=owner) == expected


def test_the_task_s_own_id_counts_where_it_differs_from_the_run_s() -> None:
    assignment = parsed(task={"id": "task-7"})
    spec = build_task_spec(assignment, SETTINGS)
    assert spec.key.task_id == "run-1"
    assert spec.arguments[2:4] == ("--task-id", "task-7")
    assert spec.environment["TASK_ID"] == Secret("task-7")


def test_additional_arguments_are_passed_through_untouched() -> None:
    extra = ["", " spaced ", "--flag=a b", "-", "--", "é", "$(HOME)"]
    assert _arguments(additional_oz_args=extra) == _line(*extra)


@pytest.mark.parametrize(
    ("minutes", "own", "expected"),
    [
        (1, "5m", ("1m",)),
        (None, None, ()),
        (None, "45m", ("45m",)),
        (10, None, ("10m",)),
        (10, "45m", ("10m",)),
        (0, "45m", ("45m",)),
        (-3, None, ()),
        (0, "0s", ("0s",)),
    ],
)
def test_idle_on_complete(minutes: int | None, own: str | None, expected: tuple[str, ...]) -> None:
    settings = replace(SETTINGS, idle_on_complete=own)
    arguments = _arguments({"idle_timeout_minutes": minutes}, settings=settings)
    assert arguments == _line(ON, last=("--idle-on-complete", *expected))


@pytest.mark.parametrize("url", [None, "", "  "])
def test_no_session_sharing_server(url: str | None) -> None:
    assert _arguments(settings=replace(SETTINGS, session_sharing_server_url=url)) == _line()


@pytest.mark.parametrize(
    "data",
    [
        {"additional_oz_args": [f"{CANARY}\0"]},
        {"task": {"agent_config_snapshot": {"model_id": f"{CANARY}\0x"}}},
        {"task": {"agent_config_snapshot": {"environment_id": f"{CANARY}\0x"}}},
    ],
)
def test_no_argument_holds_a_nul_character(data: dict[str, Any]) -> None:
    with pytest.raises(AssignmentError) as caught:
        build_task_spec(parsed(**data), SETTINGS)
    assert str(caught.value) == "a value has a NUL character, which an argument cannot have"


_values = st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "model_id": _values,
            "profile_id": _values,
            "skill_spec": _values,
            "environment_id": _values,
            "idle_timeout_minutes": st.none() | st.integers(-5, 10**6),
            "snapshot_upload_timeout_secs": st.none() | st.integers(-5, 10**6),
            "computer_use_enabled": st.none() | st.booleans(),
            "harness": st.none() | st.fixed_dictionaries({"type": _values}),
        },
    )
)
def test_no_value_of_a_snapshot_is_empty_or_untrimmed(snapshot: dict[str, Any]) -> None:
    line = _arguments(snapshot)
    assert line[:7] == _line()[:7]
    assert (ON in line) != (OFF in line)
    assert all(part and part == part.strip() for part in line)
    assert "--idle-on-complete" in line[-2:]

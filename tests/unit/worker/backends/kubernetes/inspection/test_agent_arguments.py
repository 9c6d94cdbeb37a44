"""Which of the agent's arguments a bundle of evidence shows."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.inspection.agent_arguments import (
    HIDDEN,
    secrets_in,
    shown_and_hidden,
)
from oz_agent_worker.worker.task_spec import TaskSettings, agent_arguments
from tests.unit.protocol.frames import parsed

SETTINGS = TaskSettings(
    server_root_url="https://oz.test",
    session_sharing_server_url="wss://share.test",
    idle_on_complete="45m",
)
SERVERS = {"a": {"url": "https://mcp.test", "headers": {"Authorization": "Bearer mcptoken123456"}}}
EVERYTHING: dict[str, Any] = {
    "environment_id": "env-1",
    "model_id": "model-1",
    "profile_id": "profile-1",
    "skill_spec": "skill-1",
    "mcp_servers": SERVERS,
    "computer_use_enabled": True,
    "harness": {"type": "claude"},
    "inference_providers": {"aws": {"role_arn": "arn:aws:iam::1:role/r", "region": "eu-1"}},
    "session_sharing": {"public_access": "VIEWER"},
    "snapshot_disabled": True,
    "snapshot_upload_timeout_secs": 30,
    "snapshot_script_timeout_secs": 60,
}


def arguments(config: dict[str, Any], *extra: str) -> list[str]:
    task = {"id": "t", "agent_config_snapshot": config, "owner": {"Type": "TEAM", "Id": 1}}
    return list(agent_arguments(parsed(task=task, additional_oz_args=list(extra)), SETTINGS))


def shown(*given: str) -> list[str]:
    return [text for text, _ in shown_and_hidden(given)]


@pytest.mark.parametrize("minutes", [None, 5])
@pytest.mark.parametrize("harness", ["claude", "oz"])
def test_of_the_protocols_own_arguments_the_mcp_servers_are_hidden_and_nothing_else(
    harness: str, minutes: int | None
) -> None:
    config = {**EVERYTHING, "harness": {"type": harness}, "idle_timeout_minutes": minutes}
    given = arguments(config)
    assert "--model" in given or harness != "oz"
    expected = [HIDDEN if text.startswith("{") else text for text in given]
    assert expected.count(HIDDEN) == 1
    assert shown(*given) == expected


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--api-key", "argsecret123456"], ["--api-key", HIDDEN]),
        (["--api-key=argsecret123456"], [f"--api-key={HIDDEN}"]),
        (["--model=argsecret123456"], [f"--model={HIDDEN}"]),
        (["--mcp=argsecret123456"], [f"--mcp={HIDDEN}"]),
        (["--header", "A: b", "C: d", "--verbose"], ["--header", HIDDEN, HIDDEN, "--verbose"]),
        (["-k", "secret"], ["-k", HIDDEN]),
        (["-ksecret"], [HIDDEN]),
        (["--key", "-secret"], ["--key", HIDDEN]),
        (["--key", "-----BEGIN KEY-----\nx"], ["--key", HIDDEN]),
        (["positional"], [HIDDEN]),
        (["agent", "run"], [HIDDEN, HIDDEN]),
        (["--model", "m", "positional"], ["--model", "m", HIDDEN]),
        (["--idle-on-complete", "swordfish"], ["--idle-on-complete", HIDDEN]),
        (["--idle-on-complete", "1h30m"], ["--idle-on-complete", "1h30m"]),
        (["--mcp", "--not-an-option"], ["--mcp", HIDDEN]),
    ],
)
def test_what_was_passed_through_is_hidden_but_for_the_names_of_options(
    extra: list[str], expected: list[str]
) -> None:
    without = shown(*arguments({}))
    at = without.index("--idle-on-complete")
    assert shown(*arguments({}, *extra)) == [*without[:at], *expected, *without[at:]]


@given(st.lists(st.sampled_from(["--mcp", "--model", "--new", "-x", "run", "5m", "--a=b", "s3cret"])))
def test_every_argument_is_shown_or_hidden_whole(given: list[str]) -> None:
    for argument, (text, hidden) in zip(given, shown_and_hidden(given), strict=True):
        assert text.replace(HIDDEN, hidden) == argument


def test_keys_in_hidden_documents_are_also_hidden_alone() -> None:
    servers = {
        "a": {"url": "https://mcp.test/x", "headers": {"Authorization": "Bearer mcptoken123456"}},
        "b": {
            "command": "npx",
            "type": "stdio",
            "args": ["--directory", "/workspace", "KEY=assigned123456", 5],
            "env": {"KEY": "envsecret123456"},
        },
    }
    text = json.dumps(servers)
    assert set(secrets_in(text)) == {
        text,
        "https://mcp.test/x",
        "Bearer mcptoken123456",
        "mcptoken123456",
        "KEY=assigned123456",
        "assigned123456",
        "envsecret123456",
        "5",
    }


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Authorization: Bearer token", {"Authorization: Bearer token", "token"}),
        ("TOKEN=a=b", {"TOKEN=a=b", "a=b", "b"}),
        ("user:key", {"user:key", "key"}),
        ("https://[bad", {"https://[bad"}),
        ("a prompt of many words", {"a prompt of many words"}),
        ("a note:worthy prompt of words", {"a note:worthy prompt of words"}),
        ("[" * 5000, {"[" * 5000}),
        ("[" * 990 + "]" * 990, {"[" * 990 + "]" * 990}),
        ("A=B=C=D=E=K", {"A=B=C=D=E=K", "B=C=D=E=K", "C=D=E=K", "D=E=K", "E=K"}),
        ("", {""}),
    ],
)
def test_in_other_hidden_values_too(value: str, found: set[str]) -> None:
    assert set(secrets_in(value)) == found


@pytest.mark.parametrize(
    ("argument", "keys"),
    [
        ("--api-key=K1", {"K1"}),
        ("-k=K1", {"K1"}),
        ("--header=Authorization: Bearer K1", {"Authorization: Bearer K1", "K1"}),
        ("--header=Cookie: sid=K1", {"K1"}),
        ("Cookie: a=K1; b=K2; c=K3; d=K4", {"K1", "K2", "K3", "K4"}),
        ("--auth=user:K1", {"user:K1", "K1"}),
        ("https://u:K1@h/sse?api_key=K2&x=K3#K4", {"K1", "K2", "K3", "K4"}),
        ("https://K1@h/sse?K2", {"K1", "K2"}),
        ("https://u:K%2B1@h/?k=K+2%3D", {"K%2B1", "K+1", "K+2%3D", "K+2=", "K 2="}),
        ("--url=https://u:K1@h", {"https://u:K1@h", "K1"}),
        ("-e=URL=postgres://u:K1@h/db", {"K1"}),
        ('{"Authorization": "Bearer K1"}', {"Bearer K1", "K1"}),
        ('--headers={"X-Key": ["K1"]}', {"K1"}),
    ],
)
def test_a_key_within_an_argument_of_an_mcp_server_is_also_hidden_alone(
    argument: str, keys: set[str]
) -> None:
    servers = json.dumps({"a": {"command": "npx", "args": ["-y", "srv", argument]}})
    assert keys <= set(secrets_in(servers))


@pytest.mark.parametrize(
    ("server", "keys"),
    [
        ({"env": {"PIN": 1234567890}}, {"1234567890"}),
        ({"env": {"RATIO": 1.5, "ON": True, "OFF": None}}, {"1.5"}),
        ({"command": "npx", "type": "stdio"}, set()),
        ({"command": "srv --key=K1", "type": "stdio"}, {"srv --key=K1", "--key=K1", "K1"}),
        ({"command": "srv --key K1"}, {"srv --key K1", "K1"}),
        ({"command": "KEY=K1"}, {"KEY=K1", "K1"}),
        ({"command": ["srv", "K1"]}, {"srv", "K1"}),
    ],
)
def test_of_an_mcp_server_all_values_are_hidden_but_names(server: dict[str, Any], keys: set[str]) -> None:
    text = json.dumps(server)
    assert set(secrets_in(text)) == {text, *keys}


def test_an_address_is_shown_without_who_asks_there() -> None:
    given = ["agent", "run", "--server-root-url", "https://u:p%40ss@oz.test/a@b", "--model", "m@n"]
    assert list(shown_and_hidden(given))[3:] == [
        ("https://***@oz.test/a@b", "u:p%40ss"),
        ("--model", ""),
        ("m@n", ""),
    ]


def test_the_protocols_settings_are_not_secret() -> None:
    settings = replace(SETTINGS, idle_on_complete=None)
    given = list(agent_arguments(parsed(), settings))
    assert shown(*given) == given

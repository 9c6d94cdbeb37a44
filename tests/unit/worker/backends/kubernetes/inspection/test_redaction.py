import json
from typing import Any

import pytest

from oz_agent_worker.worker.backends.kubernetes.inspection.redaction import Redactor


def spec(**env: str) -> dict[str, Any]:
    return {"containers": [{"name": "task", "env": [{"name": n, "value": v} for n, v in env.items()]}]}


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("OZ_RUN_ID", True),
        ("OZ_WORKSPACE_ROOT", True),
        ("TASK_ID", True),
        ("GIT_TERMINAL_PROMPT", True),
        ("OZ_API_KEY", False),
        ("OZ_SOME_TOKEN", False),
        ("GITHUB_TOKEN", False),
        ("ANYTHING", False),
        ("OZONE", False),
    ],
)
def test_values_of_variables_are_hidden_but_for_those_known_to_be_harmless(name: str, kept: bool) -> None:
    (entry,) = Redactor([]).data(spec(**{name: "the-value"}))["containers"][0]["env"]
    assert entry == {"name": name, "value": "the-value" if kept else "***"}
    assert Redactor([spec(**{name: "the-value"})]).text("is the-value") == (
        "is the-value" if kept else "is ***"
    )


def test_what_is_not_a_value_stays() -> None:
    pod = {
        "metadata": {"annotations": {"a": "b"}, "labels": {"c": "d"}},
        "spec": {
            "initContainers": [
                {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}
            ],
            "containers": [{"args": ["x"], "env": None}, {"name": "without"}],
        },
    }
    assert Redactor([]).data(pod) == pod


def test_what_repeats_the_whole_object_is_left_out() -> None:
    last = "kubectl.kubernetes.io/last-applied-configuration"
    metadata = {"annotations": {last: '{"spec": …}', "kept": "yes"}, "managedFields": [{"manager": "x"}]}
    assert Redactor([]).data({"metadata": metadata}) == {
        "metadata": {"annotations": {last: "***", "kept": "yes"}}
    }


def test_a_value_is_hidden_wherever_it_occurs() -> None:
    redactor = Redactor([spec(A="swordfish", B="swordfish-longer"), spec(C="other-pod")])
    assert redactor.log(b"1 swordfish-longer\n2 swordfish\n3 other-pod\n") == b"1 ***\n2 ***\n3 ***\n"
    assert redactor.data({"args": ["--key=swordfish", 3, None], "m": {"k": "other-pod"}}) == {
        "args": ["--key=***", 3, None],
        "m": {"k": "***"},
    }


@pytest.mark.parametrize("text", ["1", "true", "main", "8080"])
def test_a_short_value_is_no_secret_in_other_texts(text: str) -> None:
    assert Redactor([spec(A=text)]).text(f"port {text} is true") == f"port {text} is true"


def test_a_key_of_several_lines_is_hidden_line_by_line() -> None:
    """A log has a timestamp before each."""
    redactor = Redactor([spec(KEY="-----BEGIN KEY-----\nAAAABBBBCCCC\n-----END KEY-----\n")])
    assert redactor.log(b"T1 AAAABBBBCCCC\nT2 -----END KEY-----\n") == b"T1 ***\nT2 ***\n"


def test_a_value_is_hidden_as_the_program_sees_it() -> None:
    """In a spec, `$` may be doubled (core/v1, EnvVar.value)."""
    assert Redactor([spec(A="pass$$(word)")]).text("pass$(word) pass$$(word)") == "*** ***"


def test_where_there_is_nothing_to_hide_nothing_changes() -> None:
    redactor = Redactor([{}, {"containers": None}])
    assert (redactor.text("a"), redactor.log(b"b"), redactor.data({"c": [1.5]})) == ("a", b"b", {"c": [1.5]})


def arguments(*args: str, name: str = "task") -> dict[str, Any]:
    return {"containers": [{"name": name, "args": list(args)}]}


def test_the_arguments_of_the_agent_are_hidden_as_variables_are() -> None:
    servers = '{"a":{"headers":{"Authorization":"Bearer mcptoken123456"}}}'
    spec = arguments("agent", "run", "--mcp", servers, "--api-key", "argsecret123456")
    (container,) = Redactor([]).data(spec)["containers"]
    assert container["args"] == ["agent", "run", "--mcp", "***", "--api-key", "***"]
    redactor = Redactor([spec])
    assert redactor.text("mcptoken123456 argsecret123456") == "*** ***"
    assert redactor.log(b'{"key": "argsecret123456"}') == b'{"key": "***"}'
    assert redactor.text(f"got {servers}.") == "got ***."


@pytest.mark.parametrize(
    "given",
    [
        "--api-key=SECRETKEY12345",
        "https://u:SECRETKEY12345@h/sse",
        "https://h/sse?api_key=SECRETKEY12345",
        "--header=Cookie: sid=SECRETKEY12345",
    ],
)
def test_a_key_of_an_mcp_server_is_hidden_where_it_is_alone(given: str) -> None:
    redactor = Redactor([arguments("agent", "run", "--mcp", json.dumps({"a": {"args": [given]}}))])
    assert redactor.text("key SECRETKEY12345 is wrong") == "key *** is wrong"
    assert redactor.log(b"GET /sse?api_key=SECRETKEY12345") == b"GET /sse?api_key=***"


def test_of_the_servers_address_who_asks_is_hidden() -> None:
    address = "https://user:ROOTPASS1234@oz.test/x"
    asked = spec(WARP_SERVER_ROOT_URL=address)
    asked["containers"][0]["args"] = ["agent", "run", "--server-root-url", address]
    (container,) = Redactor([]).data(asked)["containers"]
    assert container["env"] == [{"name": "WARP_SERVER_ROOT_URL", "value": "https://***@oz.test/x"}]
    assert container["args"][-1] == "https://***@oz.test/x"
    for part in (spec(WARP_SERVER_ROOT_URL=address), arguments("agent", "run", "--server-root-url", address)):
        redactor = Redactor([part])
        assert redactor.text(f"{address}: ROOTPASS1234") == "https://***@oz.test/x: ***"


def test_the_arguments_of_other_containers_are_the_operators_own() -> None:
    spec = arguments("--level", "information", name="proxy")
    assert Redactor([]).data(spec) == spec
    assert Redactor([spec]).text("information") == "information"


def test_a_value_is_hidden_in_a_log_of_json_lines() -> None:
    redactor = Redactor([spec(KEY='pass"word\nand\\more')])
    assert redactor.log(rb'{"env": "pass\"word\nand\\more"}') == b'{"env": "***"}'

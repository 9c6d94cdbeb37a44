"""The agent's environment, image and sidecars, and the spec as a whole."""

import json
from dataclasses import replace
from typing import Any

import pytest

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.assignment import AssignmentError, InstanceShape, Sidecar, TaskTooLargeError
from oz_agent_worker.protocol.report import ExecutionKey
from oz_agent_worker.worker.task_spec import (
    FALLBACK_IMAGE,
    TaskSettings,
    TaskSpec,
    build_task_spec,
    check_sidecars,
)
from tests.unit.protocol.frames import parsed

ROOT = "https://oz.test"
SETTINGS = TaskSettings(server_root_url=ROOT)
CANARY = "canary-41f0"


# ---------------------------------------------------------------------------- environment

FIXED = {
    "TASK_ID": Secret("run-1"),
    "GIT_TERMINAL_PROMPT": Secret("0"),
    "GH_PROMPT_DISABLED": Secret("1"),
    "WARP_SERVER_ROOT_URL": Secret(ROOT),
}


@pytest.mark.parametrize(
    ("assigned", "operator", "expected"),
    [
        ({}, {}, FIXED),
        ({"A": "1"}, {"B": "2"}, {**FIXED, "A": Secret("1"), "B": Secret("2")}),
        ({"A": "1"}, {"A": "2"}, {**FIXED, "A": Secret("2")}),
        ({"TASK_ID": "x"}, {}, {**FIXED, "TASK_ID": Secret("x")}),
        (
            {"GIT_TERMINAL_PROMPT": "1"},
            {"GIT_TERMINAL_PROMPT": "2"},
            {**FIXED, "GIT_TERMINAL_PROMPT": Secret("2")},
        ),
        ({"EMPTY": ""}, {}, {**FIXED, "EMPTY": Secret("")}),
    ],
)
def test_the_environment_s_layers(
    assigned: dict[str, str], operator: dict[str, str], expected: dict[str, Secret]
) -> None:
    settings = replace(SETTINGS, operator_env={k: Secret(v) for k, v in operator.items()})
    spec = build_task_spec(parsed(env_vars=assigned), settings)
    assert spec.environment == expected


# ---------------------------------------------------------------------- image and sidecars


@pytest.mark.parametrize(
    ("assigned", "default", "expected"),
    [
        ("img", "default", "img"),
        (None, "default", "default"),
        (" ", "default", "default"),
        (None, None, FALLBACK_IMAGE),
        (None, "", "ubuntu:22.04"),
    ],
)
def test_the_image(assigned: str | None, default: str | None, expected: str) -> None:
    settings = replace(SETTINGS, default_image=default)
    assert build_task_spec(parsed(docker_image=assigned), settings).image == expected


AGENT = Sidecar("agent:1", "/agent")
TOOLS = {"image": "tools:1", "mount_path": "/opt/tools", "read_write": True}
CLAUDE_CLI = {"image": "theirs:1", "mount_path": "/mnt/claude-cli-sidecar"}


def _sidecars(settings: TaskSettings, harness: str | None = None, **data: Any) -> tuple[Sidecar, ...]:
    task = {"agent_config_snapshot": {"harness": {"type": harness}}}
    return build_task_spec(parsed(task=task, **data), settings).sidecars


def test_the_agent_image_comes_first() -> None:
    sidecars = _sidecars(SETTINGS, sidecar_image="agent:1", additional_sidecars=[TOOLS])
    assert sidecars == (AGENT, Sidecar("tools:1", "/opt/tools", read_write=True))


def test_the_worker_s_agent_image_replaces_the_assignment_s() -> None:
    settings = replace(SETTINGS, sidecar_image="own:2")
    assert _sidecars(settings, sidecar_image="agent:1", additional_sidecars=[TOOLS]) == (
        Sidecar("own:2", "/agent"),
        Sidecar("tools:1", "/opt/tools", read_write=True),
    )


@pytest.mark.parametrize("image", [None, "", " "])
def test_the_worker_s_agent_image_is_not_added_where_the_assignment_sends_none(image: str | None) -> None:
    settings = replace(SETTINGS, sidecar_image="own:2")
    assert _sidecars(settings, sidecar_image=image) == ()


CODING = replace(SETTINGS, coding_cli_sidecars={"claude": "cli:9"})


@pytest.mark.parametrize("mount_path", ["/mnt/claude-cli-sidecar", "/mnt/claude-cli-sidecar/"])
def test_a_coding_cli_replaces_the_harness_s_image_in_its_place(mount_path: str) -> None:
    extra = [{**CLAUDE_CLI, "mount_path": mount_path}, TOOLS]
    assert _sidecars(CODING, "claude", sidecar_image="agent:1", additional_sidecars=extra) == (
        AGENT,
        Sidecar("cli:9", mount_path),
        Sidecar("tools:1", "/opt/tools", read_write=True),
    )


def test_a_coding_cli_is_added_where_there_is_none() -> None:
    assert _sidecars(CODING, "claude", sidecar_image="agent:1") == (
        AGENT,
        Sidecar("cli:9", "/mnt/claude-cli-sidecar"),
    )


@pytest.mark.parametrize("harness", ["codex", None, "oz"])
def test_a_coding_cli_is_its_harness_s_alone(harness: str | None) -> None:
    assert _sidecars(CODING, harness, additional_sidecars=[CLAUDE_CLI]) == (
        Sidecar("theirs:1", "/mnt/claude-cli-sidecar"),
    )


@pytest.mark.parametrize("harness", [None, "", "oz"])
def test_the_built_in_harness_is_named_oz(harness: str | None) -> None:
    settings = replace(SETTINGS, coding_cli_sidecars={"oz": "cli:1"})
    assert _sidecars(settings, harness) == (Sidecar("cli:1", "/mnt/oz-cli-sidecar"),)


@pytest.mark.parametrize(
    ("sidecars", "text"),
    [
        ([Sidecar("", "/a")], "the sidecar at '/a' has no image"),
        ([Sidecar("i", "")], "sidecar mount path '' is not an absolute path"),
        ([Sidecar("i", "a/b")], "sidecar mount path 'a/b' is not an absolute path"),
        ([Sidecar("i", "/")], "sidecar mount path '/' is not an absolute path"),
        ([Sidecar("i", "/a/../b")], "sidecar mount path '/a/../b' is not an absolute path"),
        ([Sidecar("i", "/workspace/")], "a sidecar cannot be mounted at /workspace, which is the workspace"),
        ([Sidecar("i", "/a"), Sidecar("j", "/a/")], "two sidecars are mounted at /a"),
    ],
)
def test_sidecars_that_cannot_be_mounted(sidecars: list[Sidecar], text: str) -> None:
    with pytest.raises(AssignmentError) as caught:
        check_sidecars(sidecars)
    assert str(caught.value) == text


def test_sidecars_that_can_be_mounted() -> None:
    check_sidecars([AGENT, Sidecar("i", "/agent/deeper"), Sidecar("i", "/workspace/x")])


# ------------------------------------------------------------------------------ the whole


def test_a_whole_spec() -> None:
    assignment = parsed(
        task={"id": "run-1", "title": "Fix it", "agent_config_snapshot": {"harness": {"type": "codex"}}},
        docker_image="img",
        env_vars={"A": "1"},
        instance_shape={"vcpus": 2},
    )
    assert build_task_spec(assignment, SETTINGS) == TaskSpec(
        key=ExecutionKey("run-1", "exec-1"),
        title="Fix it",
        arguments=(
            "agent", "run", "--task-id", "run-1", "--sandboxed", "--server-root-url", ROOT,
            "--no-computer-use", "--harness", "codex", "--idle-on-complete",
        ),
        environment={**FIXED, "A": Secret("1")},
        image="img",
        sidecars=(),
        shape=InstanceShape(vcpus=2),
        harness="codex",
    )  # fmt: skip


def test_neither_spec_nor_settings_print_a_secret() -> None:
    settings = replace(SETTINGS, operator_env={"OWN": Secret(CANARY)})
    snapshot = {"mcp_servers": {"a": {"headers": {"Authorization": CANARY}}}}
    assignment = parsed(
        task={"agent_config_snapshot": snapshot},
        env_vars={"TOKEN": CANARY},
        additional_oz_args=["--token", CANARY],
    )
    spec = build_task_spec(assignment, settings)
    assert CANARY in json.dumps(spec.arguments)  # it is there, and does not show
    assert CANARY not in repr(spec)
    assert CANARY not in repr(settings)


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        (
            {"additional_oz_args": ["--skill-text", "x" * 131_072]},
            "--skill-text has 131072 bytes",
        ),
        (
            {"task": {"id": "r", "agent_config_snapshot": {"mcp_servers": {"a": {"url": "x" * 131_072}}}}},
            "the value of --mcp has ",
        ),
        ({"env_vars": {"TOKEN": "x" * 131_072}}, "the variable TOKEN has 131078 bytes with its name"),
    ],
    ids=["argument", "servers", "variable"],
)
def test_what_no_program_can_be_given_is_refused_by_name(assignment: dict[str, Any], said: str) -> None:
    """K12: on every backend, before anything is started."""
    with pytest.raises(TaskTooLargeError, match=said) as caught:
        build_task_spec(parsed(**assignment), SETTINGS)
    assert "xxx" not in str(caught.value)


def test_a_prompt_of_any_size_is_no_argument() -> None:
    """K12: the agent fetches it."""
    task = {"id": "r", "task_definition": {"prompt": "x" * 1_000_000}}
    assert sum(map(len, build_task_spec(parsed(task=task), SETTINGS).arguments)) < 1000

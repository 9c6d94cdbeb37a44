import json
from typing import Any

import pytest

from oz_agent_worker.controlplane.api.run_request import decode_run_request
from oz_agent_worker.controlplane.problems import ProblemError


def refusal(body: Any) -> ProblemError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(ProblemError) as caught:
        decode_run_request(raw)
    return caught.value


def test_the_smallest_request() -> None:
    request = decode_run_request(b'{"prompt": "Mend the build"}')
    assert (request.prompt, request.shown_title, request.worker_host) == (
        "Mend the build",
        "Mend the build",
        None,
    )


def test_null_counts_as_absent() -> None:
    request = decode_run_request(
        b'{"prompt": "p", "title": null, "config": null, "metadata": null, "mode": null}'
    )
    assert request.config is None


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"{", 400, "The body is not valid JSON."),
        (b"\xff\xfe", 400, "The body is not valid JSON."),
        (b'{"attachments":' + b"[" * 100_000, 400, "The body is not valid JSON."),
        ([], 400, "Expected `object`, got `array`"),
        ({"prompt": "p", "safe_to_retry": "yes"}, 400, "safe_to_retry: Expected `bool | null`, got `str`"),
        ({"prompt": 1}, 400, "prompt: Expected `str | null`, got `int`"),
        (
            {"prompt": "p", "config": {"worker_hots": "w"}},
            400,
            "config: Object contains unknown field `worker_hots`",
        ),
        (
            {"prompt": "p", "config": {"harness": {"type": 7}}},
            400,
            "config.harness.type: Expected `str | null`, got `int`",
        ),
        (
            {"prompt": "p", "config": {"session_sharing": {"public_access": "ALL"}}},
            400,
            "config.session_sharing.public_access: Invalid enum value 'ALL'",
        ),
        (
            {"prompt": "p", "config": {"mcp_servers": {"a": {}, "b": 1}}},
            400,
            "config.mcp_servers.b: Expected `object`, got `int`",
        ),
        (
            b'{"prompt": "p", "config": {"mcp_servers": {"a": {"port": 1e999}}}}',
            400,
            "config.mcp_servers.a: Number out of range",
        ),
        ({"prompt": "p", "config": {"worker_host": "warp-1"}}, 400, "config.worker_host: worker IDs"),
        ({}, 400, "prompt: required unless a skill is given"),
        ({"prompt": "  \n"}, 400, "prompt: required unless a skill is given"),
        ({"prompt": "a\0b"}, 400, "prompt: contains a NUL character"),
        ({"prompt": "p", "metadata": {"a b": "c"}}, 400, "metadata: a key is"),
        ({"prompt": "p", "metadata": {"k": "é" * 129}}, 400, "metadata.k: longer than 256 bytes"),
        ({"prompt": "p", "metadata": {f"k{i}": "v" for i in range(21)}}, 400, "metadata: has 21 keys"),
        (
            {"prompt": "p", "attachments": [{"data": "x"}]},
            422,
            "attachments: this control plane does not offer it",
        ),
        ({"prompt": "p", "mode": "plan"}, 422, "mode: this control plane does not offer it"),
        ({"prompt": "p", "interactive": True}, 422, "interactive: this control plane does not offer it"),
        ({"prompt": "x" * (16 * 1024 * 1024)}, 413, "prompt: with the configuration"),
        # K12: MCP servers are one argument of the agent's command line.
        (
            {"prompt": "p", "config": {"mcp_servers": {"a": {"url": "x" * 131_060}}}},
            413,
            "config.mcp_servers: 131076 bytes of JSON, and 131071 fit one argument",
        ),
    ],
)
def test_refusals_name_the_field(body: Any, status: int, detail: str) -> None:
    problem = refusal(body)
    assert problem.status == status
    assert problem.detail.startswith(detail)


@pytest.mark.parametrize(
    "path",
    [
        "prompt",
        "title",
        "conversation_id",
        "parent_run_id",
        "skill",
        "config.name",
        "config.model_id",
        "config.environment_id",
        "config.skill_spec",
        "config.worker_host",
        "config.base_prompt",
        "config.harness.model_id",
        "config.inference_providers.aws.region",
    ],
)
def test_a_nul_is_refused_wherever_it_is(path: str) -> None:
    """P8: PostgreSQL cannot store it."""
    value: Any = "a\0b"
    for name in reversed(path.split(".")):
        value = {name: value}
    problem = refusal({"prompt": "p"} | value)
    assert (problem.status, problem.detail) == (400, f"{path}: contains a NUL character")


def test_a_nul_in_a_list_is_refused() -> None:
    assert refusal({"prompt": "p", "config": {"skills": ["a", "\0"]}}).detail == (
        "config.skills: contains a NUL character"
    )


def test_what_says_nothing_is_taken() -> None:
    decode_run_request(
        b'{"prompt": "p", "attachments": [], "mode": "normal", "interactive": false, "team": true}'
    )


@pytest.mark.parametrize(
    ("body", "skill"),
    [
        ({"skill": "a", "config": {"skill_spec": "b"}}, "a"),
        ({"config": {"skill_spec": "b", "skills": ["c"]}}, "b"),
        ({"config": {"skills": ["c", "d"]}}, "c"),
        ({"prompt": "p"}, None),
    ],
)
def test_which_skill_leads(body: Any, skill: str | None) -> None:
    assert decode_run_request(json.dumps(body).encode()).skill_spec == skill


@pytest.mark.parametrize(
    ("body", "title"),
    [
        ({"prompt": "p", "title": " Mine "}, "Mine"),
        ({"prompt": "\n\n  First line \nsecond"}, "First line"),
        ({"prompt": "x" * 200}, "x" * 79 + "…"),
        ({"skill": "repo:review"}, "repo:review"),
    ],
)
def test_titles(body: Any, title: str) -> None:
    assert decode_run_request(json.dumps(body).encode()).shown_title == title


def test_an_empty_host_is_none() -> None:
    assert decode_run_request(b'{"prompt": "p", "config": {"worker_host": " "}}').worker_host is None


@pytest.mark.parametrize(("body", "safe"), [({}, None), ({"safe_to_retry": True}, True)])
def test_safe_to_retry_is_a_member_of_its_own(body: dict[str, Any], safe: bool | None) -> None:
    assert decode_run_request(json.dumps(body | {"prompt": "p"}).encode()).safe_to_retry is safe

"""Where the API key is shown, and what the answer means."""

import pytest

from oz_agent_worker.cli.control_plane_checks import api_root, judge_key
from oz_agent_worker.worker.checks import Severity


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("wss://oz.warp.dev/api/v1/selfhosted/worker/ws", "https://app.warp.dev/api/v1"),
        ("ws://127.0.0.1:8080/api/v1/selfhosted/worker/ws", "http://127.0.0.1:8080/api/v1"),
        ("wss://oz.example/base/api/v1/selfhosted/worker/ws?x=1", "https://oz.example/base/api/v1"),
        ("wss://oz.example/socket", None),
    ],
)
def test_a_key_is_shown_to_the_workers_own_host(url: str, root: str | None) -> None:
    assert api_root(url) == root


@pytest.mark.parametrize(
    ("status", "grade"),
    [
        (200, Severity.OK),
        (401, Severity.FAIL),
        (403, Severity.FAIL),
        (404, Severity.WARN),
        (503, Severity.WARN),
    ],
)
def test_only_a_refusal_is_a_failure(status: int, grade: Severity) -> None:
    result = judge_key(status, "https://oz.example/api/v1")
    assert result.severity is grade
    assert ("WARP_API_KEY" in result.fix) == (grade is Severity.FAIL)

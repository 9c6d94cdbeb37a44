import pytest

from oz_agent_worker.cli.dev import pod_warnings


@pytest.mark.parametrize(
    ("host", "public_url", "agent_image", "named"),
    [
        ("127.0.0.1", None, None, ["--public-url", "--agent-image"]),
        ("127.0.0.1", "http://192.0.2.7", "agent:1", []),
        ("0.0.0.0", None, "agent:1", []),
        ("::1", None, "agent:1", ["--public-url"]),
        ("127.0.0.1", "http://192.0.2.7", None, ["--agent-image"]),
    ],
)
def test_pods_need_the_control_planes_address_and_the_agent(
    host: str, public_url: str | None, agent_image: str | None, named: list[str]
) -> None:
    warnings = pod_warnings(host, public_url, agent_image)
    assert len(warnings) == len(named)
    for flag, warning in zip(named, warnings, strict=True):
        assert flag in warning

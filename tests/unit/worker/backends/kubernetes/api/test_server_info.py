import pytest

from oz_agent_worker.worker.backends.kubernetes.api.server_info import parse_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("v1.35.4", (1, 35)),
        ("v1.29.3-gke.1282000", (1, 29)),
        ("1.30+", (1, 30)),
        ("v0.0.0-master+$Format:%H$", (0, 0)),
        ("latest", None),
        ("", None),
        (None, None),
    ],
)
def test_a_version_is_its_first_two_numbers(text: str | None, version: tuple[int, int] | None) -> None:
    assert parse_version(text) == version

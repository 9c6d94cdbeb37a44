from pathlib import Path

import pytest

import oz_agent_worker
from scripts.version import CHARTS, PACKAGE, ROOT, differences, main, notes

CHANGELOG = """# Changes

## Unreleased

- something

## 1.3.0 - 2026-02-01

### Added

- a thing

## 1.2.0

- older
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository at 1.3.0."""
    for name in (PACKAGE, *CHARTS):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text('name: x\nversion: "1.3.0"\nappVersion: 1.3.0\n')
    (tmp_path / PACKAGE).write_text('"""Text."""\n\n__version__ = "1.3.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    return tmp_path


def test_this_repository_has_one_version() -> None:
    assert list(differences(ROOT, oz_agent_worker.__version__)) == []


def test_each_different_place_is_named(repository: Path) -> None:
    chart = repository / CHARTS[1]
    chart.write_text(chart.read_text().replace('version: "1.3.0"', 'version: "1.2.0"'))
    assert list(differences(repository, "1.3.0")) == [f"{CHARTS[1]}: version is 1.2.0, not 1.3.0"]
    assert len(list(differences(repository, "2.0.0"))) == 5


def test_notes_of_a_version() -> None:
    assert notes(CHANGELOG, "1.3.0") == "### Added\n\n- a thing"
    assert notes(CHANGELOG, "1.2.0") == "- older"
    assert notes(CHANGELOG, "1.2") is None


def test_a_version_is_set_everywhere(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--set", "2.0.0-rc.1"], repository) == 0
    assert list(differences(repository, "2.0.0-rc.1")) == []
    assert main(["--check", "2.0.0-rc.1"], repository) == 1
    assert "CHANGELOG.md has no section for 2.0.0-rc.1" in capsys.readouterr().err


def test_a_release_is_checked(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", "1.3.0"], repository) == 0
    assert main(["--check", "1.2.0"], repository) == 1
    assert f"{PACKAGE} has 1.3.0, not 1.2.0" in capsys.readouterr().err
    assert main(["--notes", "1.3.0"], repository) == 0
    assert "- a thing" in capsys.readouterr().out
    with pytest.raises(SystemExit) as wrong:
        main(["--check", "v1"], repository)
    assert wrong.value.code == 2

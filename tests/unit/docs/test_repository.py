"""The files in .github name make targets and scripts that exist."""

import re
from pathlib import Path

import pytest
import yaml

from scripts.docs.parts import ROOT

from .documents import read

GITHUB = ROOT / ".github"
FILES = sorted(path for path in GITHUB.rglob("*") if path.is_file())
TARGETS = set(re.findall(r"^([a-z0-9-]+):", read(ROOT / "Makefile"), re.MULTILINE))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(GITHUB).as_posix())
def test_a_file_runs_targets_and_scripts_that_exist(path: Path) -> None:
    text = read(path)
    if path.suffix == ".yml":
        assert yaml.safe_load(text)
    for command in re.findall(r"(?:run: |`)make ([^`\n]+)", text):
        assert {word for word in command.split() if "=" not in word} <= TARGETS, command
    for script in re.findall(r"\bscripts/[\w./]+\.py", text):
        assert (ROOT / script).is_file(), script

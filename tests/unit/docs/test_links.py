"""Every link inside the documentation resolves, on the site and on GitHub."""

import re
from pathlib import Path
from typing import Final

import pytest

from scripts.docs.parts import DOCS, ROOT

from .documents import DOCUMENTS, anchors, read

LINK: Final = re.compile(r"\]\((?!https?://)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_resolve(document: Path) -> None:
    for link in LINK.finditer(read(document)):
        target = document.parent / link["file"] if link["file"] else document
        assert target.exists(), link.group()
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link.group()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_modules_that_are_named_exist(document: Path) -> None:
    for name in re.findall(r"`([\w/-]+\.py)`", read(document)):
        folders = ("src/oz_agent_worker", "scripts", "tests", "images")
        paths = [path.as_posix() for folder in folders for path in (ROOT / folder).rglob(Path(name).name)]
        assert any(path.endswith(f"/{name}") for path in paths), name


def test_every_page_is_linked_from_the_first() -> None:
    index = DOCS / "index.md"
    linked = {link["file"] for link in LINK.finditer(read(index))}
    listed = set(re.findall(r"^([a-z/-]+)$", read(index), re.MULTILINE))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.glob("*.md")} - {"index.md"}
    assert linked == {f"{page}.md" for page in listed} == pages | {"decisions/index.md"}


def test_every_decision_is_linked_from_the_index_and_the_architecture() -> None:
    records = {path.name for path in (DOCS / "decisions").glob("0*.md")}
    assert records
    for page, folder in ((DOCS / "decisions/index.md", ""), (DOCS / "architecture.md", "decisions/")):
        assert {f"{folder}{record}" for record in records} <= {
            link["file"] for link in LINK.finditer(read(page))
        }

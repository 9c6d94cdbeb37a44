"""Every link inside the documentation leads somewhere, on the site and where GitHub shows the files."""

import re
from pathlib import Path
from typing import Final

import pytest

from .documents import DOCUMENTS, anchors, read

LINK: Final = re.compile(r"\]\((?!https?://)(?P<file>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_link_leads_somewhere(document: Path) -> None:
    for link in LINK.finditer(read(document)):
        target = document.parent / link["file"] if link["file"] else document
        assert target.exists(), link.group()
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link.group()


def test_every_page_is_linked_from_the_first() -> None:
    index = next(document for document in DOCUMENTS if document.name == "index.md")
    linked = {link["file"] for link in LINK.finditer(read(index))}
    listed = set(re.findall(r"^([a-z-]+)$", read(index), re.MULTILINE))
    pages = {document.name for document in DOCUMENTS} - {"README.md", "index.md"}
    assert linked == {f"{page}.md" for page in listed} == pages

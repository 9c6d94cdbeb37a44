"""The pages build without warnings and load nothing from other hosts."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from scripts.docs.parts import DOCS
from scripts.docs.site import build


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    assert build(folder / "site", folder / "doctrees") == 0
    return folder / "site"


class Fetched(HTMLParser):
    """Collects what a browser would fetch by itself to show a page."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "link" and (given.get("rel") or "") in ("canonical", "license"):
            return
        name = "href" if tag == "link" else "src"
        if tag != "a" and (address := given.get(name)):
            self.addresses.append(address)


def test_every_document_has_a_page(site: Path) -> None:
    pages = {path.relative_to(site).with_suffix("") for path in site.rglob("*.html")}
    assert {path.relative_to(DOCS).with_suffix("") for path in DOCS.rglob("*.md")} <= pages


def test_pages_load_nothing_from_other_hosts(site: Path) -> None:
    seen = 0
    for page in site.glob("*.html"):
        fetched = Fetched()
        fetched.feed(page.read_text(encoding="utf-8"))
        seen += len(fetched.addresses)
        assert not [a for a in fetched.addresses if re.match(r"(?:\w+:)?//", a)], page.name
    assert seen
    for sheet in site.rglob("*.css"):
        found = re.findall(r"(?:@import\s*|url\()\s*['\"]?(?:\w+:)?//[^)'\"]+", sheet.read_text("utf-8"))
        assert not found, sheet.name


def test_the_search_has_its_index(site: Path) -> None:
    assert "preflight" in (site / "searchindex.js").read_text("utf-8")


def test_a_broken_link_fails_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf.py").write_text("extensions = ['myst_parser']\nmyst_heading_anchors = 4\n")
    (tmp_path / "index.md").write_text("# A\n\n[there](#nowhere)\n")
    monkeypatch.setattr("scripts.docs.site.DOCS", tmp_path)
    assert build(tmp_path / "site", tmp_path / "doctrees") != 0
    assert "nowhere" in capfd.readouterr().err

"""The examples of docs/api.md: a request as curl takes it, and the answer that the page shows."""

import argparse
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from scripts.docs.parts import DOCS
from tests.unit.docs.documents import Block, blocks

__all__ = ["Example", "Request", "alike", "examples"]

_VOLATILE: Final = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z"), "TIME"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "TRACE"),
)


@dataclass(frozen=True)
class Request:
    """What a curl command sends."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: str | None


@dataclass(frozen=True)
class Example:
    """A request of the page, and the block with the answer."""

    command: Block
    answer: Block

    def request(self, variables: Mapping[str, str]) -> Request:
        """Read the command as the shell and curl do. Fails on an option that is not known here."""
        text = self.command.content.replace("\\\n", " ")
        for name, value in variables.items():
            text = text.replace(f"${name}", value)
        parser = argparse.ArgumentParser(prog="curl", exit_on_error=False)
        parser.add_argument("url")
        parser.add_argument("-X", "--request")
        parser.add_argument("-H", "--header", action="append", default=[])
        parser.add_argument("-d", "--data")
        parser.add_argument("--globoff", action="store_true")
        parser.add_argument("--no-buffer", action="store_true")
        given = parser.parse_args(shlex.split(text)[1:])
        headers = dict(header.split(": ", 1) for header in given.header)
        return Request(given.request or ("POST" if given.data else "GET"), given.url, headers, given.data)


def examples() -> Iterator[Example]:
    """The page's examples, in order."""
    for block, following in itertools.pairwise(blocks(DOCS / "api.md")):
        if block.language == "sh" and block.content.startswith("curl"):
            yield Example(block, following)


def alike(value: Any) -> Any:
    """A value with what differs from run to run replaced: IDs, times, trace IDs."""
    if isinstance(value, dict):
        return {name: alike(item) for name, item in value.items()}
    if isinstance(value, list):
        return [alike(item) for item in value]
    if isinstance(value, str):
        for pattern, name in _VOLATILE:
            value = pattern.sub(name, value)
    return value

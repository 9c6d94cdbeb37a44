from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec
import pytest

from oz_agent_worker.cli.output import echo_json


class Verdict(StrEnum):
    OK = "ok"


@dataclass(frozen=True)
class Row:
    path: str
    verdict: Verdict = Verdict.OK
    at: datetime = datetime(2030, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("text", ["plain", "é 😀", "bytes \udcff that are no UTF-8"])
@pytest.mark.parametrize("wrap", [dict, lambda row: row, lambda row: [row]], ids=["dict", "row", "rows"])
def test_every_value_is_printed_as_json_whatever_its_texts_are(
    capsys: pytest.CaptureFixture[str], text: str, wrap: Any
) -> None:
    row = Row(text)
    value = {"path": text, "verdict": row.verdict, "at": row.at} if wrap is dict else wrap(row)
    echo_json(value)
    printed = capsys.readouterr().out
    escaped = printed.replace("\\udcff", "\\ufffd")
    found = msgspec.json.decode(escaped)
    assert (found[0] if isinstance(found, list) else found) == {
        "path": text.replace("\udcff", "\ufffd"),
        "verdict": "ok",
        "at": "2030-01-02T00:00:00Z",
    }

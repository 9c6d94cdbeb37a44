"""JSON of others, with what no argument of a program can be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.agent.json_input import loads


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r'"\ud83c\udf89"', "\U0001f389"),
        (r'"\uD83C"', "\ufffd"),
        (r'"a\udf89b"', "a\ufffdb"),
        (r'"\udf89\ud83c"', "\ufffd\ufffd"),
        (r'"\ud83c\ud83c\udf89"', "\ufffd\U0001f389"),
        (r'"\\ud83c"', r"\ud83c"),
        (r'"\\\ud83c"', "\\\ufffd"),
        (r'{"\ud83c": ["\u00e9\n"]}', {"\ufffd": ["é\n"]}),
    ],
)
def test_half_of_a_character_is_replaced(text: str, value: object) -> None:
    """K8: a file and an argument are UTF-8, which has no halves."""
    assert loads(text) == loads(text.encode()) == value


@given(st.recursive(st.text() | st.integers(), st.lists, max_leaves=5), st.booleans())
def test_all_else_is_read_as_it_is(value: object, ascii_only: bool) -> None:
    assert loads(json.dumps(value, ensure_ascii=ascii_only)) == value


@pytest.mark.parametrize("text", ["", "{", r'"\ud83"', b"\xff", b'"\xed\xa0\xbc"'])
def test_what_is_no_json(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        loads(text)

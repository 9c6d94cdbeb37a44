import base64
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oz_agent_worker.controlplane.store.cursor import Cursor, CursorError, decode_cursor, encode_cursor

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)
KEYS = st.lists(st.integers(-(2**62), 2**62) | TEXTS, max_size=3).map(tuple)


@settings(deadline=None)
@given(st.builds(Cursor, st.sampled_from(["title", "created_at"]), st.booleans(), KEYS))
def test_a_cursor_comes_back_as_it_went(cursor: Cursor) -> None:
    text = encode_cursor(cursor)
    assert decode_cursor(text) == cursor
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@settings(deadline=None)
@given(st.text(max_size=100))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    with suppress(CursorError):
        assert isinstance(decode_cursor(text), Cursor)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%%%",
        "é",
        "A" * 9000,
        base64.urlsafe_b64encode(b'{"a":1}').decode(),
        encode_cursor(Cursor("t", True, ()))[:-3],
        encode_cursor(Cursor("title", True, ("a\0b", 1))),  # P8
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(CursorError):
        decode_cursor(text)

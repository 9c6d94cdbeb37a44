import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiStatusError, GoneError
from oz_agent_worker.worker.backends.kubernetes.api.rest import JOBS
from oz_agent_worker.worker.backends.kubernetes.objects import JobView
from oz_agent_worker.worker.backends.kubernetes.watch.stream import (
    Bookmark,
    Deleted,
    LineSplitter,
    UndecodableEventError,
    Upserted,
    WatchDecoder,
    WatchEvent,
)


def line(event_type: str, **content: Any) -> bytes:
    return json.dumps({"type": event_type, "object": content}, ensure_ascii=False).encode()


def decode(line: bytes) -> WatchEvent[JobView] | None:
    return WatchDecoder(JOBS).decode(line)


JOB: dict[str, Any] = {"metadata": {"name": "jöb", "uid": "u", "resourceVersion": "7"}}


@given(
    st.lists(st.binary(max_size=20).filter(lambda b: b"\n" not in b), max_size=8),
    st.lists(st.integers(min_value=0, max_value=200)),
)
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(part + b"\n" for part in lines)
    places = sorted({0, *(c for c in cuts if c < len(stream)), len(stream)})
    splitter = LineSplitter()
    found = [part for start, end in itertools.pairwise(places) for part in splitter.feed(stream[start:end])]
    assert found == [part for part in lines if part]


def test_an_unfinished_line_is_no_line() -> None:
    assert list(LineSplitter().feed(b'{"type":"ADDED","obj')) == []


def test_a_line_of_several_megabytes_in_small_chunks() -> None:
    long = line("ADDED", **JOB, spec="x" * 3_000_000)
    splitter = LineSplitter()
    stream = long + b"\n" + line("BOOKMARK", metadata={"resourceVersion": "9"}) + b"\n"
    found = [
        part for start in range(0, len(stream), 1000) for part in splitter.feed(stream[start : start + 1000])
    ]
    assert found[0] == long
    assert len(found) == 2


def test_events_by_type() -> None:
    for kind in ("ADDED", "MODIFIED"):
        event = decode(line(kind, **JOB))
        assert isinstance(event, Upserted)
        assert event.object.metadata.name == "jöb"
    assert isinstance(decode(line("DELETED", **JOB)), Deleted)
    bookmark = decode(line("BOOKMARK", kind="Job", metadata={"resourceVersion": "12"}))
    assert bookmark == Bookmark("12")


def test_a_type_of_the_future_is_skipped() -> None:
    assert decode(line("SYNCED", metadata=[1])) is None


@pytest.mark.parametrize(("code", "kind"), [(410, GoneError), (500, ApiStatusError), (None, ApiStatusError)])
def test_an_error_event_is_raised(code: int | None, kind: type[ApiStatusError]) -> None:
    with pytest.raises(kind, match="too old resource version"):
        decode(line("ERROR", kind="Status", code=code, message="too old resource version"))


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"type":"ADDED","object":{"metadata":7}}', b"\xff\xfe"])
def test_what_cannot_be_decoded_says_so_without_its_content(content: bytes) -> None:
    with pytest.raises(UndecodableEventError, match=rf"^{len(content)} bytes"):
        decode(content)

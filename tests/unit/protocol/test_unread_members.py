"""A member that the receiver does not use never makes a frame unusable, whatever its JSON type."""

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.assignment import Assignment, parse_assignment
from oz_agent_worker.protocol.frames import FrameError, decode_control_plane_frame, decode_worker_frame

from .public_schema import MEMBERS, SHOWN, UNREAD, type_faults
from .test_frames import FULL_ASSIGNMENT, WORKER_FRAMES

UNKNOWN = [
    "later",
    "task.later",
    "task.owner.later",
    "task.agent_config_snapshot.later",
    "task.agent_config_snapshot.harness.later",
    "additional_sidecars[].later",
    "instance_shape.later",
]
UNREAD_MEMBERS = [path for path in MEMBERS if path.startswith(UNREAD)]

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
JSON_VALUES = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ONE_OF_EACH_TYPE: list[Any] = [True, 7, 1.5, "text", ["a"], {"a": 1}]


def _with(changes: dict[str, Any]) -> str:
    """The full frame with the values at these paths; parents come before their members."""
    document: Any = json.loads(json.dumps(FULL_ASSIGNMENT))
    for path, value in changes.items():
        *parents, name = path.split(".")
        node = document["data"]
        for parent in parents:
            node = node[parent[:-2]][0] if parent.endswith("[]") else node[parent]
        node[name] = value
    return json.dumps(document)


def _assignment(frame: str) -> Assignment:
    decoded = decode_control_plane_frame(frame)
    assert isinstance(decoded, frames.TaskAssignment)
    return parse_assignment(decoded)


EXPECTED = _assignment(json.dumps(FULL_ASSIGNMENT))


def test_the_full_frame_has_every_public_member_in_its_type() -> None:
    data = FULL_ASSIGNMENT["data"]
    assert isinstance(data, dict)
    assert type_faults(data) == []
    assert set(_paths(data)) == set(MEMBERS)


def _paths(data: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in data.items():
        where = f"{path}.{name}" if path else name
        yield where
        if MEMBERS.get(where) == "object":
            yield from _paths(value, where)
        elif MEMBERS.get(where) == "list of objects":
            yield from _paths(value[0], f"{where}[]")


@pytest.mark.parametrize("path", [*UNREAD_MEMBERS, *UNKNOWN])
@given(value=JSON_VALUES)
def test_an_unread_member_may_have_any_value(path: str, value: Any) -> None:
    assert _assignment(_with({path: value})) == EXPECTED


@given(st.fixed_dictionaries({}, optional=dict.fromkeys([*UNREAD, *UNKNOWN], JSON_VALUES)))
def test_all_unread_members_may_have_any_value(changes: dict[str, Any]) -> None:
    assert _assignment(_with(changes)) == EXPECTED


@given(JSON_VALUES.filter(lambda value: not isinstance(value, str)))
def test_what_is_only_shown_counts_as_absent_where_it_is_no_string(value: Any) -> None:
    expected = dataclasses.replace(EXPECTED, title="", created_at=None)
    assert _assignment(_with(dict.fromkeys(SHOWN, value))) == expected


@pytest.mark.parametrize("path", [path for path in MEMBERS if path not in {*UNREAD_MEMBERS, *SHOWN}])
def test_what_is_read_and_of_the_wrong_type_is_named(path: str) -> None:
    for value in ONE_OF_EACH_TYPE:
        frame = _with({path: value})
        if path in type_faults(json.loads(frame)["data"]):
            with pytest.raises(FrameError) as caught:
                decode_control_plane_frame(frame)
            assert f"$.{path.replace('[]', '[0]')}" in caught.value.why


#: Numbers that JSON allows and no Python number holds, and values that hold one.
HUGE = ["1e999", "-1e999", "[1e999]", '{"a": 1e999}', "9" * 5000]


def _with_literal(document: str, literal: str) -> str:
    """The frame with this JSON text in the place of the placeholder."""
    return document.replace('"PLACEHOLDER"', literal)


@pytest.mark.parametrize("path", [*UNREAD_MEMBERS, *UNKNOWN, *SHOWN])
@pytest.mark.parametrize("literal", HUGE)
def test_a_huge_number_in_a_member_that_is_not_used_counts_as_absent(path: str, literal: str) -> None:
    read = _assignment(_with_literal(_with({path: "PLACEHOLDER"}), literal))
    assert read == _assignment(_with({path: None}))


# --------------------------------------------------------------------- worker to control plane

#: What a control plane does not use of a worker's frames.
UNUSED = {"task_claimed": ["worker_id"], "worker_hello": ["worker_id", "version"]}


@pytest.mark.parametrize("document", [document for _, document in WORKER_FRAMES])
@given(value=JSON_VALUES)
def test_an_unused_member_of_a_worker_s_frame_may_have_any_value(
    document: dict[str, Any], value: Any
) -> None:
    unused = UNUSED.get(document["type"], [])
    kept = {name: member for name, member in document["data"].items() if name not in unused}
    changed = {**document, "data": {**kept, **dict.fromkeys(["later", *unused], value)}}
    frames = [
        decode_worker_frame(json.dumps({**document, "data": kept})),
        decode_worker_frame(json.dumps(changed)),
    ]
    without, with_them = (msgspec.structs.replace(f, **dict.fromkeys(unused)) for f in frames)
    assert with_them == without


@given(JSON_VALUES)
def test_a_frame_without_members_may_have_any_data(value: Any) -> None:
    assert decode_worker_frame(json.dumps({"type": "heartbeat", "data": value})) == frames.Heartbeat()


@pytest.mark.parametrize("kind", UNUSED)
@pytest.mark.parametrize("literal", HUGE)
def test_a_huge_number_in_an_unused_member_counts_as_absent(kind: str, literal: str) -> None:
    document = next(document for _, document in WORKER_FRAMES if document["type"] == kind)
    changed = {**document, "data": {**document["data"], **dict.fromkeys(UNUSED[kind], "PLACEHOLDER")}}
    absent = {**document, "data": {n: v for n, v in document["data"].items() if n not in UNUSED[kind]}}
    read = decode_worker_frame(_with_literal(json.dumps(changed), literal))
    assert read == decode_worker_frame(json.dumps(absent))


@pytest.mark.parametrize("document", [document for _, document in WORKER_FRAMES])
def test_null_counts_as_absent_in_a_worker_s_frame(document: dict[str, Any]) -> None:
    fields = {f.encode_name: f for f in msgspec.structs.fields(decode_worker_frame(json.dumps(document)))}
    optional = [name for name, field in fields.items() if not field.required]
    kept = {name: value for name, value in document["data"].items() if name not in optional}
    nulled = {**document, "data": {**kept, **dict.fromkeys(optional)}}
    absent = {**document, "data": kept}
    assert decode_worker_frame(json.dumps(nulled)) == decode_worker_frame(json.dumps(absent))

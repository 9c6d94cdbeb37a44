import msgspec
import pytest

from oz_agent_worker.worker.backends.direct.processes import ProcessSession, boot_id
from oz_agent_worker.worker.backends.direct.records import DirectState, first_state, lost_processes


def test_each_execution_has_a_mark_of_its_own() -> None:
    marks = {first_state("run", None).mark for _ in range(100)}
    assert len(marks) == 100


def test_a_state_comes_back_as_it_was_written() -> None:
    state = msgspec.structs.replace(
        first_state("run ☃", "claude"), sessions=(ProcessSession(12, 3456), ProcessSession(13, None))
    )
    assert msgspec.json.decode(msgspec.json.encode(state), type=DirectState) == state


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("workspace", ""),
        ("workspace", ".."),
        ("workspace", "a/b"),
        ("workspace", ".removed-x"),
        ("mark", ""),
        ("mark", "x" * 32),
        ("mark", "0" * 31),
        ("sessions", [{"leader": "1", "started": 1}]),
    ],
)
def test_a_state_that_could_mean_strangers_is_refused(field: str, value: object) -> None:
    fields = msgspec.to_builtins(first_state("run", None)) | {field: value}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(fields, DirectState)


def test_sessions_mean_something_within_one_boot_alone() -> None:
    state = msgspec.structs.replace(first_state("run", None), sessions=(ProcessSession(12, 3456),))
    assert state.boot == boot_id() != ""
    assert lost_processes(state).sessions == {ProcessSession(12, 3456)}
    for boot in ("another", ""):
        assert lost_processes(msgspec.structs.replace(state, boot=boot)).sessions == frozenset()


def test_a_lost_execution_is_known_by_its_mark_and_orphans_are_not_trusted() -> None:
    state = first_state("run", None)
    processes = lost_processes(state)
    assert processes.mark == f"OZ_EXECUTION_MARK={state.mark}".encode()
    assert not processes.orphans

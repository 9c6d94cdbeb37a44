import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.backends.base import MAX_OUTPUT_CHUNK
from oz_agent_worker.backends.kubernetes.joblog import LogTail, log_container, write_log, write_note
from oz_agent_worker.backends.kubernetes.views import (
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    PodSpec,
    PodStatus,
    PodView,
    Running,
    Terminated,
    Waiting,
)


class Sink:
    wanted = True

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def write(self, chunk: bytes) -> None:
        self.chunks.append(chunk)


@given(st.lists(st.binary(max_size=30)), st.integers(min_value=1, max_value=50))
def test_the_last_part_is_kept(chunks: list[bytes], limit: int) -> None:
    tail = LogTail(limit)
    for chunk in chunks:
        tail.feed(chunk)
    whole = b"".join(chunks)
    assert b"".join(tail.chunks()) == whole[-limit:]
    assert tail.dropped == max(0, len(whole) - limit)


def test_the_sink_gets_pieces_that_it_takes() -> None:
    tail, sink = LogTail(10**7), Sink()
    tail.feed(b"x" * (3 * MAX_OUTPUT_CHUNK + 1))
    write_log(sink, tail)
    assert [len(chunk) for chunk in sink.chunks] == [MAX_OUTPUT_CHUNK] * 3 + [1]


def test_what_is_missing_is_said_first() -> None:
    tail, sink = LogTail(4), Sink()
    tail.feed(b"0123456789")
    write_log(sink, tail)
    assert sink.chunks == [b"[oz-agent-worker: the log's first 6 bytes are left out]\n", b"6789"]


def test_a_note_is_a_line() -> None:
    sink = Sink()
    write_note(sink, "the log could not be read: why")
    assert sink.chunks == [b"[oz-agent-worker: the log could not be read: why]\n"]


def pod(
    task: ContainerState | None = None, inits: dict[str, ContainerState] | None = None, sidecar: str = ""
) -> PodView:
    return PodView(
        spec=PodSpec(init_containers=(ContainerSpec(name=sidecar, restart_policy="Always"),)),
        status=PodStatus(
            container_statuses=(ContainerStatus(name="task", state=task),),
            init_container_statuses=tuple(ContainerStatus(name=n, state=s) for n, s in (inits or {}).items()),
        ),
    )


EXIT_1 = ContainerState(terminated=Terminated(exit_code=1))
EXIT_0 = ContainerState(terminated=Terminated(exit_code=0))
WAITING = ContainerState(waiting=Waiting(reason="PodInitializing"))


@pytest.mark.parametrize(
    ("seen", "container"),
    [
        (pod(ContainerState(running=Running())), "task"),
        (pod(EXIT_1), "task"),
        (pod(WAITING, {"copy": EXIT_0, "setup": EXIT_1}), "setup"),
        (pod(WAITING, {"proxy": EXIT_1}, sidecar="proxy"), None),
        (pod(WAITING, {"copy": WAITING}), None),
        (pod(None), None),
        (PodView(), None),
    ],
    ids=["runs", "failed", "failed before", "native sidecar", "never ran", "no state", "no status"],
)
def test_the_container_whose_log_tells(seen: PodView, container: str | None) -> None:
    assert log_container(seen, "task") == container

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.base import MAX_OUTPUT_CHUNK
from oz_agent_worker.worker.backends.kubernetes.logs.log_lines import LogReader
from oz_agent_worker.worker.backends.kubernetes.logs.task_log import (
    LogTail,
    log_container,
    log_sources,
    write_log,
    write_note,
    write_output,
)
from oz_agent_worker.worker.backends.kubernetes.objects import (
    ContainerSpec,
    ContainerState,
    ContainerStatus,
    ObjectMeta,
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


def test_a_gap_is_marked_first() -> None:
    tail, sink = LogTail(4), Sink()
    tail.feed(b"0123456789")
    write_log(sink, tail)
    assert sink.chunks == [b"[oz-agent-worker: 6 bytes of the log are left out here]\n", b"6789"]


@pytest.mark.parametrize(
    ("late", "content", "missing"),
    [
        (False, b"0123", ""),
        (False, b"01234", "1 bytes of the log are left out here"),
        (True, b"012", "all but the last 3 bytes of the log are left out here"),
        (True, b"01234", "all but the last 4 bytes of the log are left out here"),
    ],
)
def test_a_log_read_from_late_on_has_a_gap_of_unknown_size(late: bool, content: bytes, missing: str) -> None:
    tail = LogTail(4)
    tail.starts_late = late
    tail.feed(content)
    assert (tail.omission, tail.size) == (missing, len(content))


@pytest.mark.parametrize(
    ("content", "before"), [(b"", b""), (b"whole\n", b"whole\n"), (b"half a line", b"half a line\n")]
)
def test_a_log_whose_end_could_not_be_read_ends_with_a_line_that_says_so(
    content: bytes, before: bytes
) -> None:
    tail, sink = LogTail(100), Sink()
    tail.feed(content)
    tail.unread = "why"
    write_log(sink, tail)
    note = b"[oz-agent-worker: the log was read so far, and its end could not be: why]\n"
    assert b"".join(sink.chunks) == before + note


def test_output_of_any_size_is_cut_into_pieces() -> None:
    sink = Sink()
    write_output(sink, b"x" * (MAX_OUTPUT_CHUNK + 1))
    write_output(sink, b"")
    assert [len(chunk) for chunk in sink.chunks] == [MAX_OUTPUT_CHUNK, 1]


def test_of_the_rest_of_a_log_the_last_part_is_kept_without_its_timestamps() -> None:
    first = LogReader()
    first.feed(b"2026-01-01T00:00:00Z one\n")
    rest = LogTail(6, first.position)
    rest.feed(b"2026-01-01T00:00:00Z one\n2026-01-01T00:00:01Z two\n2026-01-01T00:00:02Z three\n")
    assert b"".join(rest.chunks()) == b"three\n"
    assert rest.dropped == 4


def test_a_tail_counts_every_byte_that_it_reads() -> None:
    tail = LogTail(3)
    assert tail.received == 0
    tail.feed(b"one\ntwo")
    tail.feed(b"\n")
    assert tail.received == 8


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
def test_the_container_whose_log_explains_the_failure(seen: PodView, container: str | None) -> None:
    assert log_container(seen, "task") == container


def named(name: str, seen: PodView, created: str = "2026-01-01T00:00:00Z") -> PodView:
    return PodView(
        metadata=ObjectMeta(name=name, uid=f"uid-{name}", creation_timestamp=created),
        spec=seen.spec,
        status=seen.status,
    )


RUNS = ContainerState(running=Running())


@pytest.mark.parametrize(
    ("seen", "sources"),
    [
        (pod(WAITING, {"setup": WAITING}), []),
        (pod(WAITING, {"copy-sidecar-0": EXIT_0, "setup": RUNS}), [("setup", False)]),
        (pod(RUNS, {"copy-sidecar-0": EXIT_0, "setup": EXIT_0}), [("setup", True), ("task", False)]),
        (pod(WAITING, {"copy-sidecar-0": EXIT_1}), [("copy-sidecar-0", True)]),
        (pod(EXIT_1, {"proxy": EXIT_1}, sidecar="proxy"), [("task", True)]),
        (PodView(), []),
    ],
    ids=["nothing", "setup", "task", "failed copy", "native sidecar", "no status"],
)
def test_the_logs_that_are_a_tasks_output(seen: PodView, sources: list[tuple[str, bool]]) -> None:
    found = list(log_sources([named("p", seen)]))
    assert [(source.container, source.ended) for source in found] == sources
    assert all((source.pod, source.key[0]) == ("p", "uid-p") for source in found)


def test_the_output_of_an_earlier_pod_comes_first() -> None:
    pods = [named("b", pod(RUNS), "2026-01-01T00:01:00Z"), named("a", pod(EXIT_1))]
    assert [source.pod for source in log_sources(pods)] == ["a", "b"]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    "phases",
    [{"b": "Failed", "a": "Running"}, {"b": "Failed", "a": "Pending"}, {"a": "Failed", "b": "Failed"}],
    ids=["one runs", "one has not started", "both have ended"],
)
def test_two_pods_of_one_second_have_one_order(phases: dict[str, str], turned: bool) -> None:
    """K13: times of creation are whole seconds, and the watch gives the Pods in any order."""
    statuses = (ContainerStatus(name="task", state=EXIT_1),)
    pods = [
        named(name, PodView(status=PodStatus(phase=phase, container_statuses=statuses)))
        for name, phase in phases.items()
    ]
    assert [source.pod for source in log_sources(pods[::-1] if turned else pods)] == list(phases)

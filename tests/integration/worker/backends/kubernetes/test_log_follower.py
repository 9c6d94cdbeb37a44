"""A task's output while it runs, with the kubelet played and its logs served for real."""

import asyncio
import dataclasses
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from oz_agent_worker.protocol.outcome import TaskResult
from oz_agent_worker.worker.backends.kubernetes.api.retry import RetryPolicy
from oz_agent_worker.worker.backends.kubernetes.log_follower import LogSettings
from tests.cluster.api_tier import ApiTier
from tests.cluster.kubelet import Kubelet, PodRun, Script, behaviours
from tests.cluster.kubelet.cri_log import LONGEST_TEXT, record
from tests.integration.worker.backends.harness import eventually
from tests.timeouts import HANG_TIMEOUT

from .worker import QUICK, Output, running_backend, task

pytestmark = pytest.mark.cluster

KubeletFactory = Callable[..., Kubelet]

MIB = 1024 * 1024
FOLLOWED = dataclasses.replace(QUICK, logs=LogSettings(pauses=RetryPolicy(first=0.02, longest=0.1)))
NOT_FOLLOWED = dataclasses.replace(QUICK, logs=LogSettings(most_followed=0))


def in_steps(*steps: bytes, go: "asyncio.Queue[None]") -> Script:
    """Write a step each time that the test says so, then end well."""

    async def script(run: PodRun) -> None:
        await run.run()
        for step in steps:
            run.write(step)
            await go.get()
        await run.finish()

    return script


async def test_lines_arrive_while_the_task_runs(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    go: asyncio.Queue[None] = asyncio.Queue()
    output = Output()
    async with (
        kubelet(behaviours.always(in_steps(b"one\n", b"two\n", "drei ☃\n".encode(), go=go))),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=FOLLOWED) as backend,
    ):
        execution = await backend.launch(task("live"), output)
        for so_far in ("one\n", "one\ntwo\n", "one\ntwo\ndrei ☃\n"):
            await eventually(lambda: output.received.decode() == so_far)  # noqa: B023
            go.put_nowait(None)
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
    assert output.received.decode() == "one\ntwo\ndrei ☃\n"


async def test_a_stream_that_breaks_is_taken_up_without_a_gap_or_a_repetition(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    parts = [[f"part {part} line {line}" for line in range(50)] for part in range(4)]

    async def script(run: PodRun) -> None:
        await run.run()
        for part in parts:
            run.write("".join(f"{line}\n" for line in part))
            await eventually(lambda: part[-1] in output.received.decode())  # noqa: B023
            # Followers get the end of the log.
            run.open_log(run.main).close()
        run.write("last words\n")
        await run.finish()

    output = Output()
    async with (
        kubelet(behaviours.always(script)),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=FOLLOWED) as backend,
    ):
        execution = await backend.launch(task("broken"), output)
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
    assert output.received.decode().splitlines() == [line for part in parts for line in part] + ["last words"]


async def test_a_line_of_several_records_is_there_once(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    """K2: records P, P, F over a second's border, read again from the next line's second on."""
    second = datetime.now(UTC).replace(microsecond=0)
    parts = [(b"a" * LONGEST_TEXT, "P"), (b"b" * LONGEST_TEXT, "P"), (b"c" * 137, "F"), (b"next", "F")]
    lines = b"a" * LONGEST_TEXT + b"b" * LONGEST_TEXT + b"c" * 137 + b"\nnext\n"
    output = Output()

    async def script(run: PodRun) -> None:
        await run.run()
        log, written = run.open_log(run.main), 0
        for number, (text, tag) in enumerate(parts * 3):
            log.append(record(second + timedelta(milliseconds=400 * number), text, tag=tag))
            written += len(text) + (tag == "F")
            await eventually(lambda: len(output.received) >= written)  # noqa: B023
            # Followers get the end of the log, and ask again.
            log.end_followers()
        await run.finish()

    async with (
        kubelet(behaviours.always(script)),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=FOLLOWED) as backend,
    ):
        execution = await backend.launch(task("records"), output)
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
    assert output.received == lines * 3


NO_WATCHES = "failed to create fsnotify watcher: too many open files"


@pytest.mark.parametrize("begun", [b"", b"thinking"], ids=["after a line", "in a line"])
async def test_the_kubelets_error_is_a_note_and_no_output(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory, begun: bytes
) -> None:
    """K3: each attempt to follow the log ends with it, and the task prints the same words itself."""
    output = Output()
    words = f"{NO_WATCHES}\n".encode()

    async def script(run: PodRun) -> None:
        await run.run()
        log = run.open_log(run.main)
        log.fail_followers(NO_WATCHES)
        log.append(record(datetime.now(UTC), words[:-1]))
        if begun:
            log.append(record(datetime.now(UTC), begun, tag="P"))
        await eventually(lambda: log.followed > 5)
        log.fail_followers("")
        log.append(record(datetime.now(UTC), b" done"))
        await eventually(lambda: b" done\n" in output.received)
        await run.finish()

    logs = LogSettings(error_pauses=RetryPolicy(first=0.02, longest=0.1))
    async with (
        kubelet(behaviours.always(script)),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=dataclasses.replace(QUICK, logs=logs)
        ) as backend,
    ):
        execution = await backend.launch(task("watches"), output)
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
    note, count, *more = [
        line for line in output.received.splitlines() if line.startswith(b"[oz-agent-worker: ")
    ]
    assert note.endswith(f"which is read again: {NO_WATCHES}]".encode())
    assert count.endswith(f" times: {NO_WATCHES}]".encode())
    assert not more
    own = output.received.replace(note + b"\n", b"").replace(count + b"\n", b"")
    # A note in a line ends it.
    assert own == words + (begun + b"\n" if begun else b"") + b" done\n"


async def test_neither_a_start_nor_a_result_waits_for_logs_that_never_come(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    """K4: twelve tasks have ended, and there are places for four requests."""
    client = dataclasses.replace(QUICK.client, in_flight=4, log_reads=4, log_total=10 * HANG_TIMEOUT)
    never = dataclasses.replace(
        QUICK, logs=LogSettings(most_followed=0, finish=10 * HANG_TIMEOUT), client=client
    )
    async with (
        kubelet(behaviours.always(behaviours.succeed(output="something\n"))) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=never) as backend,
    ):
        node.hang_logs()
        waiting = [
            asyncio.create_task((await backend.launch(task(f"waits-{n}"), Output())).wait())
            for n in range(12)
        ]
        await node.until(lambda k: k.count("Succeeded") == 12)
        execution = await backend.launch(task("quick"), Output(wanted=False))
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
        assert not any(one.done() for one in waiting)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_log_that_never_comes_is_named_in_the_output(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    """K4: the result comes after a limited time, and not as a failure."""
    outputs = [Output() for _ in range(6)]
    soon = dataclasses.replace(QUICK, logs=LogSettings(most_followed=0, finish=0.3))
    async with (
        kubelet(behaviours.always(behaviours.succeed(output="something\n"))) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=soon) as backend,
    ):
        node.hang_logs()
        executions = [await backend.launch(task(f"task-{n}"), output) for n, output in enumerate(outputs)]
        outcomes = await asyncio.gather(*(execution.wait() for execution in executions))
    assert {outcome.result for outcome in outcomes} == {TaskResult.SUCCEEDED}
    why = b"the task ended 0.3 s ago, and its result waits no longer"
    assert {output.received for output in outputs} == {
        b"[oz-agent-worker: the log could not be read: " + why + b"]\n"
    }


async def test_an_api_server_that_restarts_costs_no_line(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    go: asyncio.Queue[None] = asyncio.Queue()
    output = Output()
    async with (
        kubelet(behaviours.always(in_steps(b"before\n", b"meanwhile\n", b"after\n", go=go))),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=FOLLOWED) as backend,
    ):
        execution = await backend.launch(task("restart"), output)
        await eventually(lambda: output.received == b"before\n")
        await asyncio.to_thread(api_tier.stop_apiserver)
        go.put_nowait(None)
        await asyncio.to_thread(api_tier.start_apiserver)
        await eventually(lambda: output.received == b"before\nmeanwhile\n")
        go.put_nowait(None)
        go.put_nowait(None)
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
    assert output.received == b"before\nmeanwhile\nafter\n"


async def test_of_a_long_log_that_was_not_followed_the_end_counts_and_the_cut_is_marked(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    line = b"0123456789abcde\n"
    output = Output()
    async with (
        kubelet(behaviours.always(behaviours.succeed(output=line * 81_920 + b"the end\n"))),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=NOT_FOLLOWED) as backend,
    ):
        execution = await backend.launch(task("long"), output)
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
    mark, _, kept = output.received.partition(b"\n")
    assert mark == b"[oz-agent-worker: all but the last 1048576 bytes of the log are left out here]"
    assert len(kept) == MIB
    assert kept.endswith(line + b"the end\n")


async def test_the_setup_commands_output_comes_before_the_tasks(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async def script(run: PodRun) -> None:
        await run.start_init("setup")
        run.write("preparing\n", container="setup")
        await eventually(lambda: output.received == b"preparing\n")
        run.write("prepared\n", container="setup")
        await run.end_init("setup", 0)
        await run.run()
        run.write("working\n")
        await eventually(lambda: output.received == b"preparing\nprepared\nworking\n")
        await run.finish()

    output = Output()
    async with (
        kubelet(behaviours.always(script)),
        running_backend(
            api_tier.kubeconfig("worker"), namespace, settings=FOLLOWED, setup_command="true"
        ) as backend,
    ):
        execution = await backend.launch(task("setup"), output)
        assert (await execution.wait()).result is TaskResult.SUCCEEDED
    assert output.received == b"preparing\nprepared\nworking\n"


async def test_those_for_whom_there_is_no_place_get_their_output_at_the_end(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    go: asyncio.Queue[None] = asyncio.Queue()
    outputs = [Output(), Output()]
    one_place = dataclasses.replace(QUICK, logs=LogSettings(most_followed=1))
    async with (
        kubelet(behaviours.always(in_steps(b"hello\n", go=go))) as node,
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=one_place) as backend,
    ):
        executions = [await backend.launch(task(f"task-{n}"), output) for n, output in enumerate(outputs)]
        await node.until(lambda k: k.count("Running") == 2)
        await eventually(lambda: b"hello\n" in (outputs[0].received, outputs[1].received))
        assert sorted(output.received for output in outputs) == [b"", b"hello\n"]
        go.put_nowait(None)
        go.put_nowait(None)
        await asyncio.gather(*(execution.wait() for execution in executions))
    assert [output.received for output in outputs] == [b"hello\n", b"hello\n"]


async def test_no_log_is_read_when_no_output_is_wanted(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    async with (
        kubelet(behaviours.always(behaviours.succeed(after=0.2, output="for nobody\n"))),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=FOLLOWED) as backend,
    ):
        execution = await backend.launch(task("quiet"), Output(wanted=False))
        outcome = await execution.wait()
        await execution.release(outcome)
        entries = api_tier.audit(user="worker", namespace=namespace)
    assert outcome.result is TaskResult.SUCCEEDED
    assert [entry.request_uri for entry in entries if entry.subresource == "log"] == []


async def test_until_output_is_negotiated_a_log_is_read_only_at_the_end(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    output = Output(wanted=None)
    async with (
        kubelet(behaviours.always(behaviours.succeed(after=0.2, output="for somebody\n"))),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=FOLLOWED) as backend,
    ):
        execution = await backend.launch(task("early"), output)
        await execution.release(await execution.wait())
        entries = api_tier.audit(user="worker", namespace=namespace)
    assert output.received == b"for somebody\n"
    asked = [entry.request_uri for entry in entries if entry.subresource == "log"]
    assert ["follow=true" in uri for uri in asked] == [False]


async def test_a_log_is_followed_once_and_read_once(
    api_tier: ApiTier, namespace: str, kubelet: KubeletFactory
) -> None:
    """However often the Pod changes, and it has two more containers than the task's."""
    go: asyncio.Queue[None] = asyncio.Queue()
    output = Output()
    async with (
        kubelet(behaviours.always(in_steps(b"hello\n", go=go))),
        running_backend(api_tier.kubeconfig("worker"), namespace, settings=FOLLOWED) as backend,
    ):
        execution = await backend.launch(task("once"), output)
        await eventually(lambda: output.received == b"hello\n")
        go.put_nowait(None)
        await execution.release(await execution.wait())
        entries = api_tier.audit(user="worker", namespace=namespace)
    asked = ["follow=true" in entry.request_uri for entry in entries if entry.subresource == "log"]
    assert asked.count(False) == 1
    assert 1 <= asked.count(True) <= 3, "once more while the end is on its way"

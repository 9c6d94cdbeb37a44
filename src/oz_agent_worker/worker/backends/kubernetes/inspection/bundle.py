"""Packs the evidence of one task into a tar file; the same evidence gives the same bytes. Pure."""

import gzip
import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec

from oz_agent_worker.protocol.outcome import Outcome
from oz_agent_worker.protocol.task_text import TaskText
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.logs.task_log import LogTail, annotated
from oz_agent_worker.worker.backends.kubernetes.objects import PodView
from oz_agent_worker.worker.backends.kubernetes.status.events import quotes_task
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy

from .deleted_jobs import DeletedJob, explain_deleted
from .explain import TaskSnapshot, explain
from .redaction import Redactor
from .render_text import render_text
from .task_jobs import TaskJob

__all__ = ["ContainerLog", "TaskEvidence", "bundle", "deleted_job_files", "evidence_files"]

_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class ContainerLog:
    """The log of a container of a Pod, or the end of it."""

    pod: str
    container: str
    tail: LogTail


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEvidence:
    """What was read of a task: objects of the API as plain data, and logs.

    ``outcome`` is what the worker reports, if the worker collects; ``problems`` name what could not
    be read.
    """

    job: Mapping[str, Any]
    pods: Sequence[Mapping[str, Any]]
    events: Sequence[Mapping[str, Any]]
    logs: Sequence[ContainerLog]
    problems: Sequence[str]
    now: datetime
    policy: ObservationPolicy
    outcome: Outcome | None = None


def evidence_files(evidence: TaskEvidence) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a bundle, name and content, with secrets hidden."""
    templates = [evidence.job.get("spec", {}).get("template", {}), *evidence.pods]
    redactor = Redactor(template.get("spec") or {} for template in templates)

    def as_json(data: Any) -> bytes:
        return _as_json(redactor.data(data))

    explanation = explain(
        TaskSnapshot(
            job=msgspec.convert(evidence.job, TaskJob),
            pods=tuple(msgspec.convert(pod, PodView) for pod in evidence.pods),
            events=tuple(msgspec.convert(event, EventView) for event in evidence.events),
            now=evidence.now,
            policy=evidence.policy,
        )
    )
    text = render_text(explanation, evidence.now)
    yield "explanation.txt", redactor.text(f"{text}\n").encode()
    yield "explanation.json", as_json(msgspec.to_builtins(explanation))
    if evidence.outcome is not None:
        outcome = msgspec.to_builtins(evidence.outcome, enc_hook=_encode_text)
        outcome["words"] = outcome.pop("task_text")  # the file's key
        yield "outcome.json", as_json(outcome)
    yield "job.json", as_json(evidence.job)
    yield "events.json", as_json(list(evidence.events))
    for pod in evidence.pods:
        yield f"pods/{pod['metadata']['name']}.json", as_json(pod)
    for log in evidence.logs:
        yield f"logs/{log.pod}/{log.container}.log", redactor.log(b"".join(annotated(log.tail)))
    if evidence.problems:
        yield "not-read.txt", redactor.text("".join(f"{line}\n" for line in evidence.problems)).encode()


def _encode_text(value: Any) -> str:
    """Encode the text that the task itself wrote: its owner may read it, as the log."""
    if isinstance(value, TaskText):
        return value.reveal()
    raise NotImplementedError(f"objects of type {type(value).__name__} are in no outcome")


def deleted_job_files(job: DeletedJob, namespace: str, now: datetime) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a bundle of a task whose Job is deleted: the explanation, and the events.

    Without a spec the secrets are unknown, so the text of events that quote a program is left out.
    """
    events = (
        msgspec.structs.replace(event, message=TaskText.placeholder) if quotes_task(event) else event
        for event in job.events
    )
    job = DeletedJob(job.name, tuple(events))
    explanation = explain_deleted(job, namespace, now)
    yield "explanation.txt", f"{render_text(explanation, now)}\n".encode()
    yield "explanation.json", _as_json(explanation)
    yield "events.json", _as_json(job.events)


def _as_json(data: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(data), indent=2) + b"\n"


def bundle(name: str, files: Iterable[tuple[str, bytes]], now: datetime) -> bytes:
    """Pack files as ``.tar.gz``: one folder ``name``, sorted by file name, with the time ``now``."""
    packed = io.BytesIO()
    moment = int(now.timestamp())
    # No name and no time in gzip's header, so that the bytes depend on the files alone.
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=0) as compressed,
        tarfile.open(mode="w", fileobj=compressed, format=tarfile.PAX_FORMAT) as archive,
    ):
        for path, content in sorted(files):
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode, entry.mtime = len(content), _MODE, moment
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()

"""Names, labels and annotations of what the worker creates in a cluster.

A name depends on the IDs alone, so a second creation of the same execution conflicts with the
first. Selectors use hashes, because two IDs can look alike once they are label-safe. The
annotations keep the raw IDs, so that a later worker can adopt a Job.
"""

import hashlib
import re
from typing import Final

from oz_agent_worker.protocol.report import ExecutionKey

__all__ = [
    "ANNOTATION_ENVIRONMENT_SECRET",
    "ANNOTATION_EXECUTION_ID",
    "ANNOTATION_OWNER",
    "ANNOTATION_TASK_ID",
    "LABEL_EXECUTION_HASH",
    "LABEL_EXECUTION_ID",
    "LABEL_PREFLIGHT",
    "LABEL_TASK_HASH",
    "LABEL_TASK_ID",
    "LABEL_WORKER_HASH",
    "LABEL_WORKER_ID",
    "MAX_LABEL",
    "environment_secret_name",
    "id_hash",
    "job_name",
    "label_safe",
    "label_selector",
    "preflight_job_name",
    "preflight_labels",
    "task_annotations",
    "task_labels",
]

LABEL_WORKER_ID: Final = "oz-worker-id"
LABEL_WORKER_HASH: Final = "oz-worker-hash"
LABEL_TASK_ID: Final = "oz-task-id"
LABEL_TASK_HASH: Final = "oz-task-hash"
LABEL_EXECUTION_ID: Final = "oz-execution-id"
LABEL_EXECUTION_HASH: Final = "oz-execution-hash"
#: On preflight Jobs in place of the worker's hash, so that no selector of tasks matches them.
LABEL_PREFLIGHT: Final = "oz-preflight"
ANNOTATION_TASK_ID: Final = "oz.warp.dev/task-id"
ANNOTATION_EXECUTION_ID: Final = "oz.warp.dev/execution-id"
#: On a Job: the worker process that created it, for a later worker (``adoption.instance``).
ANNOTATION_OWNER: Final = "oz.warp.dev/owner"
#: On a Job whose variables are in a Secret: the Secret's name, for a worker that adopts the Job.
ANNOTATION_ENVIRONMENT_SECRET: Final = "oz.warp.dev/environment-secret"  # noqa: S105 - a name

#: The longest label value and DNS label (RFC 1123), in characters.
MAX_LABEL: Final = 63
_EXECUTION_CHARACTERS: Final = 8
_NOT_IN_NAMES: Final = re.compile(r"[^a-z0-9]")
_NOT_IN_LABELS: Final = re.compile(r"[^a-z0-9_.-]")


def id_hash(value: str) -> str:
    """Return the first 8 bytes of the SHA-256 of a raw ID, as 16 hexadecimal digits."""
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()[:8].hex()


def label_safe(value: str) -> str:
    """Make a label value of an ID: lower case, other characters as ``-``, 63 characters at most.

    ``unknown`` where nothing is left.
    """
    safe = _NOT_IN_LABELS.sub("-", value.lower()).strip("-_.")
    return safe[:MAX_LABEL].rstrip("-_.") or "unknown"


def job_name(key: ExecutionKey) -> str:
    """Return the Job's name: ``oz-task-<run>-exec-<last 8 of the execution ID>``.

    It is a DNS label of 63 characters at most, because the Pods' label ``job-name`` holds it: the run
    part is cut to fit. A part of which nothing readable is left becomes its ID's hash.
    """
    tail = _name_safe(key.execution_id)[-_EXECUTION_CHARACTERS:].rstrip("-")
    tail = "-exec-" + (tail or id_hash(key.execution_id)[:_EXECUTION_CHARACTERS])
    run = _name_safe(key.task_id)
    run = run if run.strip("-") else id_hash(key.task_id)
    head = "oz-task-"
    return head + run[: MAX_LABEL - len(head) - len(tail)] + tail


def _name_safe(value: str) -> str:
    return _NOT_IN_NAMES.sub("-", value.lower())


def environment_secret_name(key: ExecutionKey, unique: str) -> str:
    """Return the name of an execution's environment Secret; ``unique`` (a-z, 0-9) is the Job's own."""
    return f"{job_name(key)}-env-{unique}".rstrip("-")


def preflight_job_name(worker_id: str, unique: str) -> str:
    """Return the name of a preflight Job; ``unique`` (a-z, 0-9) is the run's own."""
    return f"oz-preflight-{id_hash(worker_id)}-{unique}"


def preflight_labels(worker_id: str) -> dict[str, str]:
    """Return the labels of a preflight Job and its Pod."""
    return {LABEL_WORKER_ID: label_safe(worker_id), LABEL_PREFLIGHT: id_hash(worker_id)}


def label_selector(worker_id: str) -> str:
    """Return the label selector of everything that this worker created."""
    return f"{LABEL_WORKER_HASH}={id_hash(worker_id)}"


def task_labels(worker_id: str, key: ExecutionKey) -> dict[str, str]:
    """Return the labels of an execution's Job and Pod."""
    return {
        LABEL_WORKER_ID: label_safe(worker_id),
        LABEL_WORKER_HASH: id_hash(worker_id),
        LABEL_TASK_ID: label_safe(key.task_id),
        LABEL_TASK_HASH: id_hash(key.task_id),
        LABEL_EXECUTION_ID: label_safe(key.execution_id),
        LABEL_EXECUTION_HASH: id_hash(key.execution_id),
    }


def task_annotations(key: ExecutionKey) -> dict[str, str]:
    """Return the annotations of an execution's Job and Pod: the raw IDs."""
    return {ANNOTATION_TASK_ID: key.task_id, ANNOTATION_EXECUTION_ID: key.execution_id}

"""Whether a task's Job can be stored, and its programs be started with what they are given. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from oz_agent_worker.common.secret import Secret
from oz_agent_worker.contract import argument_name
from oz_agent_worker.protocol.assignment import TaskTooLargeError
from oz_agent_worker.worker.task_spec import check_exec_size

__all__ = ["MAX_JOB", "check_job_size", "check_task_size"]

#: The largest request that etcd takes, in bytes (etcd, --max-request-bytes).
MAX_JOB: Final = 1536 * 1024
#: The most bytes of arguments and variables together for a stack limit of 8 MiB, as containers have.
_MAX_TOTAL: Final = 2 * 1024 * 1024
#: How many parts of a Job a message names.
_NAMED: Final = 3


def check_task_size(
    script: str, arguments: Sequence[str], own: Mapping[str, Secret], entries: Sequence[Mapping[str, Any]]
) -> None:
    """Check that the task's container can start the agent.

    ``script`` is what its shell runs. ``own`` are the worker's variables, ``entries`` the template's
    others (core/v1, EnvVar); those with a reference have a size that is not known.

    Raises:
        TaskTooLargeError: it cannot.
    """
    template = {e["name"]: Secret(e["value"]) for e in entries if isinstance(e.get("value"), str)}
    check_exec_size(arguments, {**template, **own})
    check_exec_size(("/bin/sh", "-c", script, "oz-task", *arguments), {**template, **own}, _MAX_TOTAL)


def check_job_size(
    job: Mapping[str, Any], arguments: Sequence[str], variables: Mapping[str, Secret], *, in_job: bool
) -> None:
    """Check that etcd can store the Job; ``in_job``: the variables are in it.

    Only what is certainly too large is refused here: the size of the texts alone. The API server
    answers for the rest.

    Raises:
        TaskTooLargeError: it cannot.
    """
    size = sum(_texts(job))
    if size <= MAX_JOB:
        return
    parts = [(_bytes(argument), argument_name(arguments, i)) for i, argument in enumerate(arguments)]
    if in_job:
        parts += [(_bytes(value.reveal()), f"the variable {name}") for name, value in variables.items()]
    largest = sorted(parts, reverse=True)[:_NAMED]
    named = ", ".join(f"{name} with {length} bytes" for length, name in largest)
    advice = ", or set backend.kubernetes.task_env_secret, which takes variables out of it" if in_job else ""
    raise TaskTooLargeError(
        f"its Job has {size} bytes, and etcd stores {MAX_JOB} at most; the largest parts are {named}: hand"
        f" large values over in another way, such as a file{advice}"
    )


def _texts(value: Any) -> Iterator[int]:
    """Yield the size of each text in a manifest, in bytes."""
    if isinstance(value, str):
        yield _bytes(value)
    elif isinstance(value, Mapping):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, Sequence):
        for member in value:
            yield from _texts(member)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))

"""Fault points: functions of the product are wrapped so that passing through them can be noted.

Only a process that is started to be a victim does so; the product has no code for it.
"""

import functools
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from .steps import Moment, Step

__all__ = ["Note", "install", "resolve", "subject_of"]

Note: TypeAlias = Callable[[Step, str], None]
"""Told of each passage: the step, and the ID of the run that it is about, where that shows."""

_TERMINAL: Final = frozenset({"task_completed", "task_failed"})
_TASK_ID: Final = "oz.warp.dev/task-id"


class _Body(msgspec.Struct):
    task_id: str = ""
    ack_id: str = ""


class _Frame(msgspec.Struct):
    type: str
    data: _Body = msgspec.field(default_factory=_Body)


def resolve(target: str) -> tuple[Any, str]:
    """Return what holds a step's function, and the function's name in it.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such function.
    """
    module, _, path = target.partition(":")
    holder: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    getattr(holder, name)
    return holder, name


def install(steps: Iterable[Step], note: Note) -> None:
    """Wrap the functions of the given steps, each once, whatever number of steps it has."""
    by_target: dict[str, list[Step]] = {}
    for step in steps:
        if step.moment is not Moment.OUTSIDE:
            by_target.setdefault(step.target, []).append(step)
    for target, own in by_target.items():
        holder, name = resolve(target)
        setattr(holder, name, _wrapped(getattr(holder, name), own, note))


def _wrapped(function: Callable[..., Any], steps: list[Step], note: Note) -> Callable[..., Any]:
    before = [step for step in steps if step.moment is Moment.BEFORE]
    after = [step for step in steps if step.moment is Moment.AFTER]

    def passed(those: list[Step], arguments: tuple[Any, ...]) -> None:
        for step in those:
            if _concerns(step, arguments):
                note(step, subject_of(arguments))

    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def asynchronous(*arguments: Any, **named: Any) -> Any:
            passed(before, arguments)
            result = await function(*arguments, **named)
            passed(after, arguments)
            return result

        return asynchronous

    @functools.wraps(function)
    def synchronous(*arguments: Any, **named: Any) -> Any:
        passed(before, arguments)
        result = function(*arguments, **named)
        passed(after, arguments)
        return result

    return synchronous


def _concerns(step: Step, arguments: tuple[Any, ...]) -> bool:
    if step.frame:
        return any(_is_frame(step.frame, a) for a in arguments if isinstance(a, str))
    if step.name == "report-queued":
        return any(type(a).__name__ == "TerminalReport" for a in arguments)
    if step.name == "ack-received":
        return any(isinstance(a, tuple) and a for a in arguments)
    return True


def _is_frame(kind: str, text: str) -> bool:
    frame = _decoded(text)
    return frame is not None and (frame.type in _TERMINAL if kind == "terminal" else frame.type == kind)


def _decoded(text: str) -> _Frame | None:
    try:
        return msgspec.json.decode(text, type=_Frame)
    except msgspec.DecodeError:
        return None


def _annotation(manifest: Mapping[str, Any]) -> str:
    return str((manifest["metadata"].get("annotations") or {}).get(_TASK_ID, ""))


def subject_of(arguments: Iterable[Any]) -> str:
    """The ID of the run that a call is about, where one of its arguments shows it; else empty."""
    for argument in arguments:
        found = _run_id(argument)
        if found:
            return found
    return ""


def _run_id(value: Any) -> str:
    if isinstance(value, str):
        frame = _decoded(value) if value.startswith("{") else None
        return "" if frame is None else frame.data.task_id or frame.data.ack_id.partition("/")[0]
    if isinstance(value, Mapping):
        return _annotation(value) if "metadata" in value else ""
    if isinstance(value, tuple) and value:
        return _run_id(value[0])
    for holder in (value, getattr(value, "key", None), getattr(value, "assignment", None)):
        found = getattr(holder, "task_id", None)
        if isinstance(found, str):
            return found
    return ""

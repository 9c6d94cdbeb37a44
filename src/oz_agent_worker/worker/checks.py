"""Checks of whether a worker can work, one by one, each with a verdict: what ``doctor`` shows."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from oz_agent_worker.errors import OzError

__all__ = ["Check", "Finding", "Severity", "Verdict", "examine", "fail", "ok", "skip", "warn"]


class Severity(StrEnum):
    """How a check came out. ``skip``: it could not be made, which is no fault by itself."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Verdict:
    """``detail`` is what was seen; ``mend`` says what to change, and may have several lines."""

    grade: Severity
    detail: str
    mend: str = ""


def ok(detail: str) -> Verdict:
    """All is as it should be."""
    return Verdict(Severity.OK, detail)


def warn(detail: str, mend: str = "") -> Verdict:
    """Tasks run, and something deserves a look."""
    return Verdict(Severity.WARN, detail, mend)


def fail(detail: str, mend: str = "") -> Verdict:
    """Tasks would not run."""
    return Verdict(Severity.FAIL, detail, mend)


def skip(why: str) -> Verdict:
    """The check was not made."""
    return Verdict(Severity.SKIP, why)


@dataclass(frozen=True, slots=True)
class Check:
    """A check by name; it is made only where none of the checks in ``needs`` has failed."""

    name: str
    run: Callable[[], Awaitable[Verdict]]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A check that was made, or was not."""

    name: str
    verdict: Verdict


async def examine(checks: Iterable[Check]) -> AsyncIterator[Finding]:
    """Make the checks one after the other, and yield each finding as soon as it is there.

    An ``OzError`` is a failure in its own words. A check whose needs failed is skipped, and
    so are those that need it.
    """
    blocked: dict[str, str] = {}
    for check in checks:
        cause = next((blocked[name] for name in check.needs if name in blocked), None)
        if cause is not None:
            verdict = skip(f"not made: {cause} failed")
            blocked[check.name] = cause
        else:
            try:
                verdict = await check.run()
            except OzError as error:
                verdict = fail(str(error))
            if verdict.grade is Severity.FAIL:
                blocked[check.name] = check.name
        yield Finding(check.name, verdict)

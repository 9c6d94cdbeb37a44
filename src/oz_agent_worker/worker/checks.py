"""Checks of whether a worker can run tasks, one by one: ``doctor`` shows them, the start fails on them."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from oz_agent_worker.errors import OzError

__all__ = ["Check", "CheckResult", "Severity", "fail", "ok", "run_checks", "skip", "warn"]


class Severity(StrEnum):
    """How a check came out. ``skip``: it could not be made, which is not a failure by itself."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """``detail`` is what was seen; ``fix`` says what to change, and may have several lines.

    ``startup`` is what a starting worker says instead: its error if the check failed, else the
    warnings that it logs.
    """

    severity: Severity
    detail: str
    fix: str = ""
    startup: tuple[str, ...] = ()


def ok(detail: str) -> CheckResult:
    """Nothing is wrong."""
    return CheckResult(Severity.OK, detail)


def warn(detail: str, fix: str = "", *, startup: tuple[str, ...] = ()) -> CheckResult:
    """Tasks run, but something deserves a look."""
    return CheckResult(Severity.WARN, detail, fix, startup)


def fail(detail: str, fix: str = "", *, startup: tuple[str, ...] = ()) -> CheckResult:
    """Tasks would not run."""
    return CheckResult(Severity.FAIL, detail, fix, startup)


def skip(why: str) -> CheckResult:
    """The check was not made."""
    return CheckResult(Severity.SKIP, why)


@dataclass(frozen=True, slots=True)
class Check:
    """A named check; skipped if one that it ``needs`` failed, or was skipped for that reason.

    Without ``at_start`` only ``doctor`` makes it, and not a starting worker.
    """

    name: str
    run: Callable[[], Awaitable[CheckResult]]
    needs: tuple[str, ...] = ()
    at_start: bool = True


async def run_checks(checks: Iterable[Check]) -> AsyncIterator[tuple[str, CheckResult]]:
    """Run the checks in order; yield each check's name and result as soon as it has one.

    An ``OzError`` counts as a failure, with its text as the detail.
    """
    blocked: dict[str, str] = {}
    for check in checks:
        cause = next((blocked[name] for name in check.needs if name in blocked), None)
        if cause is not None:
            result = skip(f"not made: {cause} failed")
            blocked[check.name] = cause
        else:
            try:
                result = await check.run()
            except OzError as error:
                result = fail(str(error))
            if result.severity is Severity.FAIL:
                blocked[check.name] = check.name
        yield check.name, result

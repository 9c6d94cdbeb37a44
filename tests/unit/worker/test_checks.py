"""Checks are made in order, each where nothing that it needs has failed."""

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.worker.checks import Check, CheckResult, Severity, fail, ok, run_checks, skip, warn


def check(name: str, result: CheckResult, *needs: str) -> Check:
    async def run() -> CheckResult:
        return result

    return Check(name, run, needs)


async def results(*checks: Check) -> list[tuple[str, CheckResult]]:
    return [result async for result in run_checks(checks)]


async def test_results_come_in_order() -> None:
    found = await results(check("a", ok("fine")), check("b", warn("look", "there")))
    assert found == [
        ("a", CheckResult(Severity.OK, "fine")),
        ("b", CheckResult(Severity.WARN, "look", "there")),
    ]


async def test_a_check_is_skipped_with_the_first_cause() -> None:
    found = await results(
        check("server", fail("away")),
        check("namespace", ok("never asked"), "server"),
        check("job", ok("never asked"), "namespace"),
        check("peer", ok("on its own")),
    )
    details = [result.detail for _, result in found]
    assert details == ["away", "not made: server failed", "not made: server failed", "on its own"]
    assert found[2][1].severity is Severity.SKIP


async def test_a_warning_or_a_skipped_check_blocks_no_other_check() -> None:
    found = await results(
        check("a", warn("hm")), check("b", skip("cannot")), check("c", ok("made"), "a", "b", "no such check")
    )
    assert found[2][1] == ok("made")


async def test_an_error_is_a_failure_with_its_message() -> None:
    async def run() -> CheckResult:
        raise PreflightError("no agent: install one")

    assert await results(Check("agent", run)) == [("agent", fail("no agent: install one"))]

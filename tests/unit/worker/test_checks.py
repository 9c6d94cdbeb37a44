"""Checks are made in order, each where nothing that it needs has failed."""

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.worker.checks import Check, Finding, Severity, Verdict, examine, fail, ok, skip, warn


def check(name: str, verdict: Verdict, *needs: str) -> Check:
    async def run() -> Verdict:
        return verdict

    return Check(name, run, needs)


async def made(*checks: Check) -> list[Finding]:
    return [finding async for finding in examine(checks)]


async def test_findings_come_in_order() -> None:
    findings = await made(check("a", ok("fine")), check("b", warn("look", "there")))
    assert findings == [
        Finding("a", Verdict(Severity.OK, "fine")),
        Finding("b", Verdict(Severity.WARN, "look", "there")),
    ]


async def test_a_check_is_skipped_with_the_first_cause() -> None:
    findings = await made(
        check("server", fail("away")),
        check("namespace", ok("never asked"), "server"),
        check("job", ok("never asked"), "namespace"),
        check("peer", ok("on its own")),
    )
    details = [f.verdict.detail for f in findings]
    assert details == ["away", "not made: server failed", "not made: server failed", "on its own"]
    assert findings[2].verdict.grade is Severity.SKIP


async def test_a_warning_or_a_skipped_check_stands_in_nobodys_way() -> None:
    findings = await made(
        check("a", warn("hm")), check("b", skip("cannot")), check("c", ok("made"), "a", "b", "no such check")
    )
    assert findings[2].verdict == ok("made")


async def test_an_error_is_a_failure_in_its_own_words() -> None:
    async def run() -> Verdict:
        raise PreflightError("no agent: install one")

    assert await made(Check("agent", run)) == [Finding("agent", fail("no agent: install one"))]

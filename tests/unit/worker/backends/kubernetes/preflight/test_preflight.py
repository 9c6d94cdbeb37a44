"""Which checks a starting worker must pass, and what it says of them."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from oz_agent_worker.errors import ExitCode, PreflightError
from oz_agent_worker.worker.backends.kubernetes.preflight.preflight import Preflight, judge_stage
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_run import ProbeResult, Stage
from oz_agent_worker.worker.backends.kubernetes.status.finding import Finding
from oz_agent_worker.worker.checks import Check, CheckResult, Severity, fail, ok, skip, warn
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.unit.worker.backends.kubernetes.scripted_api import Answer, ScriptedApi, failure, scripted_client
from tests.virtual_time import in_virtual_time

STARTING = [
    "API server", "jobs: create", "jobs: get", "jobs: list", "jobs: watch", "jobs: delete", "pods: get",
    "pods: list", "pods: watch", "pods/log: get", "events: list", "pods: get (workers)", "task template",
    "admission", "scheduling", "image pull", "preflight Job",
]  # fmt: skip
DOCTOR_ONLY = [
    "credentials", "API server's clock", "namespace", "Pod Security", "quotas", "limit ranges",
    "image volumes",
]  # fmt: skip


class Fixed(Preflight):
    """A preflight whose checks have these results; ``ran`` are those that were made."""

    def __init__(self, **results: CheckResult) -> None:
        environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "OZ_POD_NAMESPACE": "workers"}
        super().__init__(KubernetesConfig(namespace="tasks"), worker_id="w", cleanup=True, environ=environ)
        self.ran: list[str] = []
        self._results = results

    def checks(self) -> list[Check]:
        return [replace(check, run=self._make(check.name)) for check in super().checks()]

    def _make(self, name: str) -> Callable[[], Awaitable[CheckResult]]:
        async def run() -> CheckResult:
            self.ran.append(name)
            return self._results.get(name.replace(" ", "_"), ok("fine"))

        return run


async def test_a_starting_worker_makes_its_checks_in_the_order_of_doctor() -> None:
    preflight = Fixed()
    names = [check.name for check in preflight.checks()]
    await preflight.run()
    assert preflight.ran == STARTING == [name for name in names if name not in DOCTOR_ONLY]
    assert set(names) == {*STARTING, *DOCTOR_ONLY}


async def test_the_first_failure_ends_the_start(caplog: pytest.LogCaptureFixture) -> None:
    refused = fail("no", "change it", startup=("preflight: no\n  fix: change it",))
    preflight = Fixed(task_template=refused, API_server=warn("old", startup=("it is old",)))
    with pytest.raises(PreflightError, match=r"^preflight: no\n  fix: change it$") as caught:
        await preflight.run()
    assert caught.value.exit_code is ExitCode.PREFLIGHT
    assert preflight.ran[-1] == "task template"
    assert caplog.messages == []


async def test_a_start_that_passes_logs_its_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    template = CheckResult(Severity.OK, "fine", startup=("one", "two"))
    await Fixed(task_template=template, scheduling=warn("for doctor", startup=("three",))).run()
    *warnings, passed = caplog.messages
    assert warnings == ["Preflight: one", "Preflight: two", "Preflight: three"]
    assert passed.startswith("Preflight passed in ")


def test_the_stage_at_which_the_job_stopped_explains_why() -> None:
    why = Finding("the image cannot be pulled", "not found", "correct it")
    result = ProbeResult(Stage.SCHEDULED, Stage.PULLED, why)
    assert judge_stage(result, Stage.SCHEDULED, "passed") == ok("passed")
    assert judge_stage(result, Stage.ENDED, "passed") == skip("not reached")
    shown = "the image cannot be pulled\nthe cluster says: not found"
    stopped = fail(shown, "correct it", startup=(f"preflight: {why}",))
    assert judge_stage(result, Stage.PULLED, "passed") == stopped


def test_a_pod_that_waits_for_the_autoscaler_is_a_warning() -> None:
    result = ProbeResult(Stage.ADMITTED, Stage.SCHEDULED, pending="0/3 nodes")
    found = judge_stage(result, Stage.SCHEDULED, "passed")
    assert found.severity is Severity.WARN
    assert found.startup == ("no node takes a task's Pod yet, and tasks will wait for one (0/3 nodes)",)


POLICY = """jobs.batch "oz-preflight" is forbidden: ValidatingAdmissionPolicy 'signed' denied request"""
ADDRESS = "check that this is the API server's address"


@pytest.mark.parametrize(
    ("check", "kind", "answer", "what", "fix"),
    [
        ("image volumes", "POST", failure(422, POLICY), "the admission policy `signed` refuses", "exempted"),
        ("image volumes", "POST", failure(422, "spec.x: required"), "does not admit", "pod_template"),
        ("image volumes", "POST", failure(400, "spec.x: unknown"), "does not admit", "pod_template"),
        ("image volumes", "POST", failure(401), "does not accept the credentials", "log in"),
        ("image volumes", "POST", failure(500), "cannot do what the worker asks", ADDRESS),
        ("image volumes", "POST", Answer(refused=OSError()), "cannot be reached", "this is its address"),
        ("API server", "list", failure(400, "HTTP sent to an HTTPS port"), "cannot do what", ADDRESS),
        ("quotas", "list", Answer(parts=(b"<html>",)), "cannot do what the worker asks", ADDRESS),
    ],
)
def test_a_check_that_fails_explains_a_refused_object_or_a_server_that_does_not_answer(
    check: str, kind: str, answer: Answer, what: str, fix: str
) -> None:
    @in_virtual_time
    async def run() -> None:
        api = ScriptedApi()
        api.otherwise[kind] = answer
        async with scripted_client(api) as client:
            preflight = Preflight(
                KubernetesConfig(namespace="tasks"), worker_id="w", cleanup=True, environ={}, client=client
            )
            made = next(each for each in preflight.checks() if each.name == check)
            result = await made.run()
        assert result.severity is Severity.FAIL
        assert what in result.detail
        assert fix in result.fix

    run()

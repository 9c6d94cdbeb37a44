"""Messages about a preflight Pod that did not run to its end: the texts, whole."""

from typing import Any

import msgspec
import pytest

from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.protocol.outcome import Outcome, failed
from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView
from oz_agent_worker.worker.backends.kubernetes.objects import JobView, PodView
from oz_agent_worker.worker.backends.kubernetes.preflight.pod_diagnosis import (
    event_message,
    explain_missing_pod,
    explain_outcome,
    explain_standstill,
    scheduler_words,
)
from oz_agent_worker.worker.backends.kubernetes.preflight.probe_job import build_preflight_job
from oz_agent_worker.worker.backends.kubernetes.status.evaluate import Observation, evaluate
from oz_agent_worker.worker.backends.kubernetes.status.events import EventFacts
from oz_agent_worker.worker.backends.kubernetes.status.policy import ObservationPolicy
from oz_agent_worker.worker.config.schema import KubernetesConfig
from tests.unit.worker.backends.kubernetes.samples import failed_job, job, pod, running, terminated, waiting

CONFIG = KubernetesConfig(namespace="agents", preflight_image="registry.example/small:1")
AT_ONCE = ObservationPolicy(unschedulable_timeout=30.0, pull_grace=0.0, ask_after=0.0)
RESOLVE = 'failed to resolve reference "registry.example/small:1"'
FIX_NODE = (
    "correct nodeSelector, tolerations or affinity in backend.kubernetes.pod_template, or add nodes; where an"
    " autoscaler adds them, raise backend.kubernetes.unschedulable_timeout, or set"
    " backend.kubernetes.preflight_unschedulable to warn"
)
FIX_PROGRAM = (
    "it runs `/bin/sh -c 'exit 0'`: name in backend.kubernetes.preflight_image an image that has /bin/sh and"
    " is built for the nodes' architecture, and check the security context"
)


def explained(sight: JobView, *pods: PodView, config: KubernetesConfig = CONFIG, log: str = "") -> str:
    """Return the diagnosis of a Pod with the outcome that its evaluation as a task gives."""
    evaluation = evaluate(Observation(sight, pods), {}, 1000.0, AT_ONCE)
    assert evaluation.outcome is not None
    return text(evaluation.outcome, *pods, config=config, log=log)


def text(outcome: Outcome, *pods: PodView, config: KubernetesConfig = CONFIG, **more: Any) -> str:
    manifest = build_preflight_job(config, worker_id="w", unique="u", deadline=1)
    return str(explain_outcome(outcome, pods, manifest, config, **more))


def pulling(message: str, container: str = "task", reason: str = "ErrImagePull") -> PodView:
    return pod(phase="Pending", containerStatuses=[waiting(container, reason, message)])


@pytest.mark.parametrize(
    ("message", "fix"),
    [
        (
            f"{RESOLVE}: not found",
            "correct backend.kubernetes.preflight_image: the registry has no such image (a private one may"
            " need backend.kubernetes.image_pull_secrets)",
        ),
        (
            f"{RESOLVE}: pull access denied, repository does not exist or may require authorization",
            "name a Secret with the registry's credentials in backend.kubernetes.image_pull_secrets (kubectl"
            " -n agents create secret docker-registry NAME …), or correct backend.kubernetes.preflight_image",
        ),
        (
            f"{RESOLVE}: dial tcp: i/o timeout",
            "check that the nodes reach the registry, and backend.kubernetes.preflight_image",
        ),
    ],
    ids=["not found", "denied", "unreachable"],
)
def test_an_image_that_cannot_be_pulled(message: str, fix: str) -> None:
    assert explained(job(), pulling(message)) == (
        "the image registry.example/small:1 of container `task` cannot be pulled\n"
        f"  the cluster says: {message}\n"
        f"  fix: {fix}"
    )


def test_an_image_of_the_template_is_blamed_on_the_template() -> None:
    template = {"initContainers": [{"name": "proxy", "image": "proxy:2", "restartPolicy": "Always"}]}
    config = KubernetesConfig(pod_template=template)
    error_text = explained(job(), pulling("proxy:2: not found", "proxy"), config=config)
    assert error_text.startswith("the image proxy:2 of container `proxy` cannot be pulled\n")
    assert "correct backend.kubernetes.pod_template.initContainers[proxy].image: the registry" in error_text


@pytest.mark.parametrize(
    ("reason", "message", "fix"),
    [
        ("InvalidImageName", 'couldn\'t parse image name "A:B:C"', "this is no image's name"),
        (
            "ErrImageNeverPull",
            'Container image "x" is not present with pull policy of Never',
            "load the image onto the nodes, or change backend.kubernetes.image_pull_policy",
        ),
    ],
)
def test_images_that_no_pull_brings(reason: str, message: str, fix: str) -> None:
    error_text = explained(job(), pulling(message, reason=reason))
    assert f"the cluster says: {message}\n" in error_text
    assert fix in error_text


def test_no_node() -> None:
    condition = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient cpu.",
    }
    waits = pod(phase="Pending", conditions=[condition], spec={})
    facts = EventFacts(autoscaler="NotTriggerScaleUp: pod didn't trigger scale-up")
    outcome = failed(FailureReason.UNSCHEDULABLE, "whatever a task would be told")
    assert text(outcome, waits, facts=facts) == (
        "no node takes a task's Pod within 30 s\n"
        "  the cluster says: 0/3 nodes are available: 3 Insufficient cpu.; NotTriggerScaleUp: pod didn't"
        " trigger scale-up\n"
        f"  fix: {FIX_NODE}"
    )
    assert scheduler_words([waits]) == "0/3 nodes are available: 3 Insufficient cpu."
    assert str(explain_standstill(300, [waits], [])) == (
        "no node takes a task's Pod within 300 s\n"
        "  the cluster says: 0/3 nodes are available: 3 Insufficient cpu.\n"
        f"  fix: {FIX_NODE}"
    )


def test_a_volume() -> None:
    cluster_message = 'MountVolume.SetUp failed for volume "x" : secret "missing" not found'
    facts = EventFacts(mount=f"FailedMount: {cluster_message}")
    expected = (
        "a volume of a task's Pod cannot be mounted\n"
        f"  the cluster says: FailedMount: {cluster_message}\n"
        "  fix: create what the volumes in backend.kubernetes.pod_template name (Secret, ConfigMap,"
        " volume claim), or correct the names"
    )
    assert text(failed(FailureReason.VOLUME_MOUNT, "x"), pod(phase="Pending"), facts=facts) == expected
    assert (
        str(explain_standstill(300, [pod(phase="Pending")], [event("FailedMount", cluster_message)]))
        == expected
    )


def test_a_container_that_cannot_be_created() -> None:
    wants = waiting("task", "CreateContainerConfigError", 'secret "missing" not found')
    assert explained(job(), pod(phase="Pending", containerStatuses=[wants])) == (
        "container `task` of a task's Pod cannot be created\n"
        '  the cluster says: CreateContainerConfigError: secret "missing" not found\n'
        "  fix: create in namespace agents the Secret or ConfigMap that"
        " backend.kubernetes.pod_template names, or correct the name; or correct the security context"
    )


def test_a_failed_container_is_reported_with_its_log() -> None:
    ended = pod(phase="Failed", containerStatuses=[terminated("task", 126)])
    assert explained(failed_job(), ended, log="exec format error") == (
        "container `task` of the preflight Pod ended with exit code 126\n"
        "  the cluster says: exec format error\n"
        f"  fix: {FIX_PROGRAM}"
    )


def test_a_container_without_an_end_or_with_a_good_one_is_not_blamed() -> None:
    containers = [{"name": "helper"}, terminated("copy", 0), terminated("task", 126)]
    told = explained(failed_job(), pod(phase="Failed", containerStatuses=containers))
    assert told.startswith("container `task` of the preflight Pod ended with exit code 126\n")


def test_a_container_that_cannot_be_started() -> None:
    message = 'exec: "/bin/sh": stat /bin/sh: no such file or directory'
    ended = pod(
        phase="Failed", containerStatuses=[terminated("task", 128, reason="StartError", message=message)]
    )
    assert explained(failed_job(), ended) == (
        "container `task` of the preflight Pod ended with exit code 128\n"
        f"  the cluster says: StartError: {message}\n"
        f"  fix: {FIX_PROGRAM}"
    )


def test_a_container_that_needs_more_memory() -> None:
    ended = pod(phase="Failed", containerStatuses=[terminated("task", 137, reason="OOMKilled")])
    assert explained(failed_job(), ended) == (
        "container `task` of the preflight Pod ended with exit code 137 (SIGKILL)\n"
        "  the cluster says: OOMKilled\n"
        "  fix: give it more memory in backend.kubernetes.preflight_resources"
    )


def test_a_container_of_the_template_is_the_templates_affair() -> None:
    ended = pod(phase="Failed", initContainerStatuses=[terminated("clone", 1, message="no such branch")])
    assert explained(failed_job(), ended) == (
        "container `clone` of the preflight Pod ended with exit code 1\n"
        "  the cluster says: no such branch\n"
        "  fix: correct backend.kubernetes.pod_template: the container `clone` is the template's"
    )


def test_other_failures_keep_the_message_of_a_task() -> None:
    evicted = pod(
        phase="Failed",
        reason="Evicted",
        message="The node was low on resource: memory.",
        containerStatuses=[terminated("task", 137)],
    )
    error_text = explained(failed_job(), evicted)
    assert error_text.startswith("the preflight Pod failed: ")
    assert "The node was low on resource: memory" in error_text


def event(reason: str, message: str, kind: str = "Warning", at: str = "2026-01-01T00:00:00Z") -> EventView:
    fields = {"type": kind, "reason": reason, "message": message, "lastTimestamp": at}
    return msgspec.convert(fields, EventView)


def test_a_program_of_another_architecture() -> None:
    """K14: not a Secret that is missing."""
    message = 'exec: "/bin/sh": exec format error'
    waits = pod(phase="Pending", containerStatuses=[waiting("task", "RunContainerError", message)])
    outcome = failed(FailureReason.CONTAINER_START, "x")
    text = str(explain_outcome(outcome, [waits], {}, KubernetesConfig()))
    assert text.startswith("container `task` of a task's Pod cannot be started\n")
    assert "another CPU architecture than the node's" in text


def test_a_pod_that_does_not_end() -> None:
    stuck = pod(phase="Running", containerStatuses=[running("dind"), terminated("task", 0)])
    assert str(explain_standstill(300, [stuck], [])) == (
        "the preflight Pod did not end within 300 s: container `dind` still runs\n"
        "  fix: where a container serves the others, make it an init container with restartPolicy: Always (a"
        " native sidecar), which ends with the task"
    )


def test_a_pod_that_does_not_start() -> None:
    creating = pod(phase="Pending", containerStatuses=[waiting("task", "ContainerCreating")])
    assert str(explain_standstill(300, [creating], [event("Pulling", "Pulling image", "Normal")])) == (
        "the preflight Pod did not start within 300 s\n"
        "  fix: check that its volumes can be mounted and that backend.kubernetes.preflight_image is a"
        " small image"
    )


def test_a_cluster_without_a_scheduler() -> None:
    assert str(explain_standstill(300, [pod(phase="Pending", spec={})], [])) == (
        "no scheduler has looked at the preflight Pod within 300 s\n"
        "  fix: see whether the scheduler runs, and whether schedulerName in"
        " backend.kubernetes.pod_template names one that does"
    )


def test_no_pod_at_all() -> None:
    assert str(explain_missing_pod(30, "Job is suspended")) == (
        "the cluster made no Pod for the preflight Job within 30 s\n"
        "  the cluster says: Job is suspended\n"
        "  fix: check that kube-controller-manager runs, and what else holds Jobs back in this"
        " namespace (Kueue?)"
    )


def test_the_last_warning_is_shown() -> None:
    events = [
        event("FailedMount", "late", at="2026-01-01T00:00:09Z"),
        event("FailedScheduling", "early"),
        event("Pulled", "all is well", "Normal", at="2026-01-01T00:01:00Z"),
    ]
    assert event_message(events) == "FailedMount: late"
    assert event_message([]) == ""

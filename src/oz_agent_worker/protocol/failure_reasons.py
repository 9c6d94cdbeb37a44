"""Every reason for which an execution fails, and every reason for which a worker rejects one.

A reason is one entry. The frames, the metrics' labels, the state in which the control plane
ends a run, docs/failure-reasons.md and the runbook are derived from these entries.
"""

from enum import Enum, StrEnum
from typing import Final, NamedTuple, Self

__all__ = ["NAMED_OTHERWISE", "Difference", "FailureReason", "Fault", "RejectionReason"]


class Fault(Enum):
    """Who has to act on a failure."""

    AGENT = "agent"
    """The agent, its set-up or what it was asked to do failed: the user's to fix."""
    INFRASTRUCTURE = "infrastructure"
    """What runs the agent failed: the operator's to fix."""


_AGENT = Fault.AGENT
_INFRASTRUCTURE = Fault.INFRASTRUCTURE


class FailureReason(StrEnum):
    """Why an execution failed: ``failure_reason`` on the wire, and a label of the metrics.

    An entry is: value, fault, whether the same run may succeed when it is tried again; then for
    people, in Markdown: what was ``seen``, what that ``means``, and the ``fix``. A reason that the
    public protocol does not have ends with the value of the ``public`` one that it counts as.
    """

    _value_: str
    fault: Fault
    retryable: bool
    seen: str
    means: str
    fix: str
    public: str

    def __new__(
        cls, value: str, fault: Fault, retryable: bool, seen: str, means: str, fix: str, public: str = ""
    ) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.fault, member.retryable = fault, retryable
        member.seen, member.means, member.fix = seen, means, fix
        member.public = public or value
        return member

    # In the order of a task's life: the task as a whole, images, containers, the backends' commands,
    # Jobs and Pods, cleaning up.
    UNKNOWN = (
        "unknown",
        _INFRASTRUCTURE,
        True,
        "an unexpected error in the worker",
        "The worker has no name for the error; its log has the traceback.",
        "Run the task again, and report the error.",
    )
    TASK_TIMEOUT = (
        "task_timeout",
        _AGENT,
        False,
        "the control plane's time limit for a task was reached",
        "The task took longer than it may.",
        "Raise the limit, or give the agent a smaller piece of work.",
    )
    TASK_CANCELLED = (
        "task_cancelled",
        _INFRASTRUCTURE,
        False,
        "a cancellation arrived before the work began",
        "Somebody cancelled the task.",
        "Nothing. Run the task again if it is still wanted.",
    )
    GRACEFUL_SHUTDOWN = (
        "graceful_shutdown",
        _INFRASTRUCTURE,
        True,
        "the worker shut down and ended its tasks",
        "Tasks of the direct backend cannot outlive their worker.",
        "Run the task again. With the Kubernetes backend tasks continue while no worker runs.",
    )
    WORKER_LOST = (
        "worker_lost",
        _INFRASTRUCTURE,
        True,
        "a worker found the record of a task whose worker, or whose host, had died",
        "Tasks of the direct backend cannot outlive their worker. Processes that were left are ended.",
        "Find out what ended the worker (out of memory, a crash, a restart of the host), and run the task"
        " again.",
        "unknown",
    )
    TASK_TOO_LARGE = (
        "task_too_large",
        _AGENT,
        False,
        "an argument or a variable of the task is longer than Linux passes to a program, or its Job or Secret"
        " is larger than the cluster stores",
        "The assignment cannot be carried out as it is; nothing was started. The message names what is too"
        " large, its size and the limit.",
        "Hand the named value over in another way: a prompt may have any size, a file in the image or a"
        " volume too.",
        "agent_invocation",
    )
    IMAGE_PULL = (
        "image_pull",
        _INFRASTRUCTURE,
        True,
        "`ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull` and the like, for longer than"
        " `pull_grace`, or with a message that shows that it is permanent (not found, denied)",
        "A container's image cannot be pulled.",
        "Correct the image's name and tag, name the registry's Secret in `image_pull_secrets`, check that"
        " the nodes reach the registry.",
    )
    INVALID_IMAGE = (
        "invalid_image",
        _INFRASTRUCTURE,
        False,
        "`InvalidImageName`",
        "An image name is malformed.",
        "Correct the name in the task, in `default_image` or in `pod_template`.",
    )
    SIDECAR_PREP = (
        "sidecar_prep",
        _INFRASTRUCTURE,
        True,
        "an init container `copy-sidecar-…` failed",
        "A sidecar's files could not be copied into the task's Pod.",
        "Give the sidecar's image `/bin/sh` and `cp`, for the nodes' CPU architecture, or set"
        " `use_image_volumes`.",
    )
    CONTAINER_CREATE = (
        "container_create",
        _INFRASTRUCTURE,
        True,
        "`CreateContainerConfigError`, `CreateContainerError` for longer than `pull_grace`; or"
        " `ContainerCreating` for ten minutes without a stated cause",
        "A container cannot be created, mostly because a Secret or ConfigMap that it names does not exist.",
        "Create what the message names, or correct the name in `pod_template`.",
    )
    CONTAINER_START = (
        "container_start",
        _INFRASTRUCTURE,
        True,
        "`RunContainerError`, `StartError`, `ContainerCannotRun`",
        "A container was created, but its program cannot be run.",
        "Check that the image has the program that the command names, for the node's architecture.",
    )
    CONTAINER_WAIT = (
        "container_wait",
        _INFRASTRUCTURE,
        True,
        "the container engine lost track of a container",
        "How the task ended is not known.",
        "Run the task again; check the container engine.",
    )
    CONTAINER_EXIT = (
        "container_exit",
        _AGENT,
        False,
        "the task's container ended with an exit code other than 0",
        "The agent failed. Above 128 a signal ended it: 137 is SIGKILL, 143 SIGTERM.",
        "Read its log; `oz-agent-worker explain TASK` shows where to find it.",
    )
    CONTAINER_OOM = (
        "container_oom",
        _AGENT,
        False,
        "a container ended with reason `OOMKilled`",
        "It used more memory than its limit.",
        "Give the task more memory: its instance shape, or `resources`.",
    )
    WORKSPACE_SETUP = (
        "workspace_setup",
        _INFRASTRUCTURE,
        True,
        "the task's workspace could not be created",
        "The folder of the workspaces has no space left, or the worker may not write there.",
        "Check the disk and the owner of `workspace_root`.",
    )
    SETUP_COMMAND = (
        "setup_command",
        _AGENT,
        False,
        "`setup_command` failed",
        "The operator's command before the task failed; the agent never ran.",
        "Correct the command, or what it works with. Its output is in the task's log.",
    )
    AGENT_INVOCATION = (
        "agent_invocation",
        _AGENT,
        False,
        "the agent's program could not be started",
        "It does not exist, or may not be executed.",
        "Correct `oz_path`, or install the agent.",
    )
    TEARDOWN_COMMAND = (
        "teardown_command",
        _AGENT,
        False,
        "`teardown_command` failed",
        "The operator's command after the task failed.",
        "Correct the command.",
    )
    DISPATCH_COMMAND = (
        "dispatch_command",
        _INFRASTRUCTURE,
        True,
        "`dispatch_command` failed",
        "The operator's command did not take the task.",
        "Correct the command; its output is in the message.",
    )
    DISPATCH_TIMEOUT = (
        "dispatch_timeout",
        _INFRASTRUCTURE,
        True,
        "`dispatch_command` did not end within `dispatch_timeout`",
        "The operator's command hangs, or needs more time.",
        "Let it return as soon as the task is taken, or raise `dispatch_timeout`.",
    )
    CANCEL_COMMAND = (
        "cancel_command",
        _INFRASTRUCTURE,
        True,
        "`cancel_command` failed",
        "The task was cancelled, but may still run.",
        "Correct the command.",
    )
    JOB_CREATE = (
        "job_create",
        _INFRASTRUCTURE,
        True,
        "the API server refused the Job, or no Job can be built from the assignment",
        "Admission, a quota of Jobs, a permission, or a sidecar that cannot be mounted.",
        "Read the server's answer in the message; `oz-agent-worker doctor` shows what is missing.",
    )
    JOB_WATCH = (
        "job_watch",
        _INFRASTRUCTURE,
        True,
        "the Job can no longer be watched",
        "How the task ended is not known.",
        "Check the worker's permissions (`oz-agent-worker doctor`), and run the task again.",
    )
    JOB_FAILED = (
        "job_failed",
        _INFRASTRUCTURE,
        True,
        "the Job failed or was deleted, and nothing in its Pod shows why",
        "Such as a node that refuses the Pod (`OutOfcpu`, `UnexpectedAdmissionError`).",
        "`oz-agent-worker explain TASK`, `kubectl describe job`.",
    )
    EVICTED = (
        "evicted",
        _INFRASTRUCTURE,
        True,
        "Pod reason `Evicted`; condition `DisruptionTarget` with `EvictionByEvictionAPI`,"
        " `TerminationByKubelet` or `DeletionByTaintManager`",
        "A node was short of memory or disk, was drained or tainted; or the Pod used more storage than it"
        " may.",
        "`retry_on_disruption`; `resources` that say what the task uses; where the message names a limit,"
        " `workspace_size_limit` or the ephemeral-storage limit.",
    )
    POD_PREEMPTED = (
        "pod_preempted",
        _INFRASTRUCTURE,
        True,
        "`DisruptionTarget` with `PreemptionByScheduler`, or Pod reason `Preempting`",
        "A Pod of a higher priority took the place.",
        "`retry_on_disruption`, or a `priorityClassName` in `pod_template`.",
        "evicted",
    )
    NODE_LOST = (
        "node_lost",
        _INFRASTRUCTURE,
        True,
        "`DisruptionTarget` with `DeletionByPodGC`; Pod reasons `NodeLost`, `NodeShutdown`, `Terminated`; a"
        " Pod whose node has not confirmed its end five minutes after its grace period, or has not started"
        " it within ten",
        "The node shut down, is gone, or does not answer.",
        "`retry_on_disruption`; see `kubectl get nodes`.",
        "job_failed",
    )
    POD_MISSING = (
        "pod_missing",
        _INFRASTRUCTURE,
        True,
        "the Pod was deleted; or the Job has no Pod, and its event `FailedCreate` says why",
        "Somebody deleted the Pod; or a quota has no room for it, or admission (Pod Security, a policy)"
        " refuses it. The worker waits for room in a quota as long as for a node, `unschedulable_timeout`.",
        "Find out who deletes Pods; raise the quota; change `pod_template` as the policy demands"
        " (`oz-agent-worker doctor`).",
        "job_failed",
    )
    POD_REPLACED = (
        "pod_replaced",
        _INFRASTRUCTURE,
        True,
        "the Job has another Pod than the one that started the task, and `retry_on_disruption` does not"
        " allow it",
        "Somebody removed the first Pod by force and took away its finalizer, or the Job was suspended and"
        " resumed, or the API server went away before it answered the creation of the first: the Job"
        " controller made another. The Job is deleted at once, so that the task does not run twice.",
        "Find out who removes Pods; see what the first attempt has done before you run the task again.",
        "job_failed",
    )
    POD_WATCH = (
        "pod_watch",
        _INFRASTRUCTURE,
        True,
        "the Pods can no longer be watched",
        "How the task ended is not known.",
        "Check the worker's permissions (`oz-agent-worker doctor`), and run the task again.",
    )
    UNSCHEDULABLE = (
        "unschedulable",
        _INFRASTRUCTURE,
        True,
        "`PodScheduled` is `False` with `Unschedulable` for longer than `unschedulable_timeout`; for longer"
        " than `scale_up_timeout` where an autoscaler adds a node (`TriggeredScaleUp`, `Nominated`); at once"
        " where it says that it does not (`NotTriggerScaleUp`)",
        "No node has room for the Pod, or fits its nodeSelector, affinity and tolerations.",
        "Add capacity; correct `pod_template`; raise the time-outs; 0s as `unschedulable_timeout` waits"
        " without end.",
    )
    VOLUME_MOUNT = (
        "volume_mount",
        _INFRASTRUCTURE,
        True,
        "events `FailedMount`, `FailedAttachVolume` for longer than `pull_grace`",
        "A volume of the Pod cannot be mounted.",
        "Create the Secret, ConfigMap or claim that the message names; check whether its disk is in use"
        " elsewhere.",
    )
    INIT_CONTAINER = (
        "init_container",
        _INFRASTRUCTURE,
        True,
        "an init container of `pod_template` failed",
        "The template's own preparation failed; the agent never ran.",
        "Read its log (`kubectl logs POD -c NAME`).",
    )
    INIT_STUCK = (
        "init_stuck",
        _INFRASTRUCTURE,
        True,
        "an init container has not started in ten minutes, and no image is being pulled",
        "The Pod is stuck: it has no network address, or a sidecar never becomes ready.",
        "Read the last warning in the message; `kubectl describe pod` has the rest.",
        "init_container",
    )
    ACTIVE_DEADLINE = (
        "active_deadline",
        _AGENT,
        False,
        "Job or Pod `DeadlineExceeded`",
        "The task took longer than `active_deadline_seconds`, which includes the wait for a node and its"
        " image.",
        "Raise it, or give the agent a smaller piece of work.",
    )
    CLEANUP = (
        "cleanup",
        _INFRASTRUCTURE,
        True,
        "what a task left could not be removed",
        "The task itself has ended; a Job, a container or a folder remains.",
        "Remove it; a Job is deleted after `ttl_seconds_after_finished`.",
    )


class Difference(NamedTuple):
    """What this worker reports with another reason of the public protocol than the public worker.

    ``seen`` is Markdown for people.
    """

    seen: str
    here: FailureReason
    there: FailureReason


#: Both names are public ones, so these are reported to the public service as well.
NAMED_OTHERWISE: Final = (
    Difference(
        "the agent of the direct backend ended with an exit code other than 0",
        FailureReason.CONTAINER_EXIT,
        FailureReason.AGENT_INVOCATION,
    ),
    Difference(
        "Kubernetes: an init container `copy-sidecar-…` failed",
        FailureReason.SIDECAR_PREP,
        FailureReason.INIT_CONTAINER,
    ),
    Difference(
        "Kubernetes: `setup_command` failed", FailureReason.SETUP_COMMAND, FailureReason.INIT_CONTAINER
    ),
)


class RejectionReason(StrEnum):
    """Why a worker hands an assignment back: ``reason`` on the wire, and a label of the metrics.

    The public protocol has ``at_capacity`` alone, as which each of them counts.
    """

    AT_CAPACITY = "at_capacity"
    """All of the worker's slots are taken."""
    SHUTTING_DOWN = "shutting_down"
    """The worker takes no more tasks because it ends."""
    BACKEND_UNAVAILABLE = "backend_unavailable"
    """The backend could not start the work, for a cause that is not the task's."""
    STILL_CLEANING_UP = "still_cleaning_up"
    """An earlier execution of the same run is not reported or not removed yet."""

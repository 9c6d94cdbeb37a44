"""Every failure reason for people: what was seen, what it means, and the mend."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from .outcome import FailureReason

__all__ = ["GUIDE", "Entry"]


@dataclass(frozen=True, slots=True)
class Entry:
    """What a failure reason stands for, in Markdown."""

    seen: str
    means: str
    mend: str


_ENTRIES: Final = {
    FailureReason.UNKNOWN: Entry(
        "an error in the worker itself",
        "The worker met something that it has no name for; its log has the whole error.",
        "Run the task again, and report the error.",
    ),
    FailureReason.TASK_TIMEOUT: Entry(
        "the control plane's time for a task is over",
        "The task took longer than it may.",
        "Give it more time, or a smaller piece of work.",
    ),
    FailureReason.TASK_CANCELLED: Entry(
        "a cancellation came before the work began",
        "Somebody cancelled the task.",
        "Nothing: run it again if it is wanted after all.",
    ),
    FailureReason.GRACEFUL_SHUTDOWN: Entry(
        "the worker ended, and the task's backend with it",
        "Tasks of the direct backend cannot outlive their worker.",
        "Run the task again. With the Kubernetes backend tasks go on while no worker runs.",
    ),
    FailureReason.WORKER_LOST: Entry(
        "a worker found the record of a task whose worker, or whose host, had died",
        "Tasks of the direct backend cannot outlive their worker. What was left of it is ended.",
        "Find out what ended the worker (out of memory, a crash, a restart of the host), and run the task"
        " again.",
    ),
    FailureReason.IMAGE_PULL: Entry(
        "`ErrImagePull`, `ImagePullBackOff`, `ErrImageNeverPull` and the like, for longer than"
        " `pull_grace`, or with words that show that it is for good (not found, denied)",
        "A container's image cannot be pulled.",
        "Correct the image's name and tag, name the registry's Secret in `image_pull_secrets`, see whether"
        " nodes reach the registry.",
    ),
    FailureReason.INVALID_IMAGE: Entry(
        "`InvalidImageName`",
        "What should be an image's name is none.",
        "Correct the name in the task, in `default_image` or in `pod_template`.",
    ),
    FailureReason.SIDECAR_PREP: Entry(
        "an init container `copy-sidecar-…` failed",
        "A sidecar's files could not be copied into the task's Pod.",
        "Give the sidecar's image `/bin/sh` and `cp`, or set `use_image_volumes`.",
    ),
    FailureReason.CONTAINER_CREATE: Entry(
        "`CreateContainerConfigError`, `CreateContainerError` for longer than `pull_grace`; or"
        " `ContainerCreating` for ten minutes, with no word why",
        "A container cannot be created: mostly because a Secret or ConfigMap that it names does not exist.",
        "Create what the message names, or correct the name in `pod_template`.",
    ),
    FailureReason.CONTAINER_START: Entry(
        "`RunContainerError`, `StartError`, `ContainerCannotRun`",
        "A container was created and its program cannot be run.",
        "See that the image has the program that the command names, for the node's architecture.",
    ),
    FailureReason.CONTAINER_WAIT: Entry(
        "the container engine lost sight of a container",
        "How the task ended is not known.",
        "Run the task again; see whether the engine is well.",
    ),
    FailureReason.CONTAINER_EXIT: Entry(
        "a container ended with another exit code than 0",
        "The agent failed. Above 128 a signal ended it: 137 is SIGKILL, 143 SIGTERM.",
        "Its log tells why; `oz-agent-worker explain TASK` shows where to find it.",
    ),
    FailureReason.CONTAINER_OOM: Entry(
        "a container ended with reason `OOMKilled`",
        "It used more memory than its limit.",
        "Give the task more memory: its instance shape, or `resources`.",
    ),
    FailureReason.WORKSPACE_SETUP: Entry(
        "the task's workspace could not be made",
        "There is no room or no permission where workspaces are kept.",
        "See to `workspace_root`: its disk, its owner.",
    ),
    FailureReason.SETUP_COMMAND: Entry(
        "`setup_command` failed",
        "The operator's own command before the task did not succeed; the agent never ran.",
        "Correct the command, or what it works with. Its output is in the task's log.",
    ),
    FailureReason.AGENT_INVOCATION: Entry(
        "the agent's program could not be started",
        "It does not exist, or may not be executed.",
        "Correct `oz_path`, or install the agent.",
    ),
    FailureReason.TEARDOWN_COMMAND: Entry(
        "`teardown_command` failed",
        "The operator's own command after the task did not succeed.",
        "Correct the command.",
    ),
    FailureReason.DISPATCH_COMMAND: Entry(
        "`dispatch_command` failed",
        "The operator's own command did not take the task.",
        "Correct the command; its output is in the message.",
    ),
    FailureReason.DISPATCH_TIMEOUT: Entry(
        "`dispatch_command` did not end within `dispatch_timeout`",
        "The operator's own command hangs, or needs more time.",
        "Let it return as soon as the task is taken, or raise `dispatch_timeout`.",
    ),
    FailureReason.CANCEL_COMMAND: Entry(
        "`cancel_command` failed",
        "The task was to be cancelled and may go on.",
        "Correct the command.",
    ),
    FailureReason.JOB_CREATE: Entry(
        "the API server refused the Job, or no Job can be made of the assignment",
        "Admission, a quota of Jobs, a permission, or a sidecar that cannot be mounted.",
        "The message has the server's words; `oz-agent-worker doctor` shows what is missing.",
    ),
    FailureReason.JOB_WATCH: Entry(
        "the Job can no longer be followed",
        "How the task ended is not known.",
        "See to the worker's permissions (`oz-agent-worker doctor`), and run the task again.",
    ),
    FailureReason.JOB_FAILED: Entry(
        "the Job failed, or was deleted by somebody, and nothing in its Pod tells why",
        "Such as a node that refuses the Pod (`OutOfcpu`, `UnexpectedAdmissionError`).",
        "`oz-agent-worker explain TASK`, `kubectl describe job`.",
    ),
    FailureReason.EVICTED: Entry(
        "Pod reason `Evicted`; condition `DisruptionTarget` with `EvictionByEvictionAPI`,"
        " `TerminationByKubelet` or `DeletionByTaintManager`",
        "A node was short of memory or disk, was drained or tainted; or the Pod used more storage than it"
        " may.",
        "`retry_on_disruption`; `resources` that say what the task uses; where the message names a limit,"
        " `workspace_size_limit` or the ephemeral-storage limit.",
    ),
    FailureReason.POD_PREEMPTED: Entry(
        "`DisruptionTarget` with `PreemptionByScheduler`, or Pod reason `Preempting`",
        "A Pod of a higher priority took the place.",
        "`retry_on_disruption`, or a `priorityClassName` in `pod_template`.",
    ),
    FailureReason.NODE_LOST: Entry(
        "`DisruptionTarget` with `DeletionByPodGC`; Pod reasons `NodeLost`, `NodeShutdown`, `Terminated`; a"
        " Pod whose node has not confirmed its end five minutes after its grace period, or has not taken it"
        " up in ten",
        "The node shut down, is gone, or does not answer.",
        "`retry_on_disruption`; see `kubectl get nodes`.",
    ),
    FailureReason.POD_MISSING: Entry(
        "the Pod was deleted; or the Job has no Pod, and its event `FailedCreate` says why",
        "Somebody deleted the Pod; or a quota has no room for it, or admission (Pod Security, a policy)"
        " refuses it. Room in a quota is waited for as long as a node is, `unschedulable_timeout`.",
        "Find out who deletes Pods; raise the quota; give `pod_template` what the policy wants"
        " (`oz-agent-worker doctor`).",
    ),
    FailureReason.POD_WATCH: Entry(
        "the Pods can no longer be followed",
        "How the task ended is not known.",
        "See to the worker's permissions (`oz-agent-worker doctor`), and run the task again.",
    ),
    FailureReason.UNSCHEDULABLE: Entry(
        "`PodScheduled` is `False` with `Unschedulable` for longer than `unschedulable_timeout`; for longer"
        " than `scale_up_timeout` where an autoscaler adds a node (`TriggeredScaleUp`, `Nominated`); at once"
        " where it says that it does not (`NotTriggerScaleUp`)",
        "No node has room for the Pod, or fits its nodeSelector, affinity and tolerations.",
        "Add capacity; correct `pod_template`; raise the time-outs; 0s as `unschedulable_timeout` waits for"
        " ever.",
    ),
    FailureReason.VOLUME_MOUNT: Entry(
        "events `FailedMount`, `FailedAttachVolume` for longer than `pull_grace`",
        "A volume of the Pod cannot be mounted.",
        "Create the Secret, ConfigMap or claim that the message names; see whether its disk is in use"
        " elsewhere.",
    ),
    FailureReason.INIT_CONTAINER: Entry(
        "an init container of `pod_template` failed",
        "The template's own preparation did not succeed; the agent never ran.",
        "Its log tells why (`kubectl logs POD -c NAME`).",
    ),
    FailureReason.INIT_STUCK: Entry(
        "an init container has not started in ten minutes, and no image is being pulled",
        "The Pod gets no further: no address from the network, a sidecar that never becomes ready.",
        "The message has the last warning; `kubectl describe pod` has the rest.",
    ),
    FailureReason.ACTIVE_DEADLINE: Entry(
        "Job or Pod `DeadlineExceeded`",
        "The task took longer than `active_deadline_seconds`, waiting for a node and its image included.",
        "Raise it, or give the task a smaller piece of work.",
    ),
    FailureReason.CLEANUP: Entry(
        "what a task left could not be removed",
        "The task itself has ended; a Job, a container or a folder stays behind.",
        "Remove it; a Job goes by itself after `ttl_seconds_after_finished`.",
    ),
}

#: All reasons, in the order in which a reader looks for them.
GUIDE: Final[Mapping[FailureReason, Entry]] = MappingProxyType(_ENTRIES)

"""What a cluster means that does not admit a task's Job or its Pod. Pure.

The words are those of the API server's own admission plugins, of its policies, and of the
webhooks in front of it. They come as an error of a creation, or in the event
``FailedCreate`` of a Job whose Pods are refused.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.worker.config.schema import KubernetesConfig

from .finding import Finding

__all__ = ["explain_refusal", "is_temporary_refusal", "refusal_message"]

_Mend = Callable[[Mapping[str, str], KubernetesConfig], str]

_CREATING: Final = re.compile(r"^Error creating: ")
# How the API server says that it does not take an object: admission and authorisation, validation, webhooks.
_REFUSING: Final = re.compile(r'is forbidden|is invalid|denied (?:the )?request|" not found')
# The refusal of one attempt, not of the Pod: webhook calls, time-outs, conflicts, and an API server that
# has just started (plugins that are not ready, and roles which are not loaded).
_PASSING: Final = re.compile(
    r"failed calling webhook|internal error|time-?out|timed out|deadline exceeded|connection refused"
    r"|unavailable|too many requests|object has been modified|not yet ready to handle request"
    r'|User "[^"]*" cannot ',
    re.IGNORECASE,
)

_RESTRICTED: Final = """\
pod_template:
  securityContext:
    {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: task
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}"""


def _pod_security(found: Mapping[str, str], config: KubernetesConfig) -> str:
    level, namespace = found["level"], config.namespace
    lower = "baseline" if level == "restricted" else "privileged"
    label = f"kubectl label namespace {namespace} pod-security.kubernetes.io/enforce={lower} --overwrite"
    if level != "restricted":
        what = "remove from backend.kubernetes.pod_template what the cluster names"
        return f"{what}, or lower the level:\n{label}"
    lines = ["give the Pods what the level asks for, under backend.kubernetes:"]
    if not config.use_image_volumes:
        lines.append("use_image_volumes: true  # else sidecars are copied by a container that runs as root")
    return "\n".join([*lines, _RESTRICTED, "or lower the level:", label])


def _exceeded_quota(found: Mapping[str, str], config: KubernetesConfig) -> str:
    quota, namespace = found["quota"], config.namespace
    return (
        f"raise the quota (kubectl -n {namespace} edit resourcequota {quota}), or delete what fills it"
        f" (kubectl -n {namespace} get jobs,pods)"
    )


def _failed_quota(found: Mapping[str, str], config: KubernetesConfig) -> str:
    return (
        f"the quota {found['quota']} wants every container to say what it needs: set"
        " backend.kubernetes.resources for tasks and backend.kubernetes.preflight_resources for the"
        " preflight, or give the namespace defaults with a LimitRange"
    )


def _limit_range(found: Mapping[str, str], config: KubernetesConfig) -> str:
    return (
        "keep backend.kubernetes.preflight_resources (and backend.kubernetes.resources, for tasks) within"
        f" the limits of the namespace: kubectl -n {config.namespace} describe limitrange"
    )


def _service_account(found: Mapping[str, str], config: KubernetesConfig) -> str:
    return (
        f"create it (kubectl -n {config.namespace} create serviceaccount {found['account']}), or correct"
        " backend.kubernetes.service_account (pod_template.serviceAccountName)"
    )


def _class(field: str) -> _Mend:
    return lambda found, config: (
        f"create it, or correct backend.kubernetes.pod_template.{field} (kubectl get {found['kind'].lower()})"
    )


def _policy(found: Mapping[str, str], config: KubernetesConfig) -> str:
    return (
        "give the Pods what the policy asks for, with backend.kubernetes.pod_template, extra_labels or"
        f" extra_annotations; or have the namespace {config.namespace} exempted from it"
    )


def _webhook(found: Mapping[str, str], config: KubernetesConfig) -> str:
    return (
        "have the cluster's administrators mend the webhook, or exempt the namespace"
        f" {config.namespace} from it"
    )


def _namespace(found: Mapping[str, str], config: KubernetesConfig) -> str:
    return f"create it (kubectl create namespace {config.namespace}), or correct backend.kubernetes.namespace"


def _permission(found: Mapping[str, str], config: KubernetesConfig) -> str:
    group = found["group"]
    return (
        f"let the Role that is bound to the worker in namespace {config.namespace} {found['verb']}"
        f' {found["resource"]} (apiGroups: ["{group}"])'
    )


@dataclass(frozen=True, slots=True)
class _Rule:
    words: re.Pattern[str]
    what: str
    mend: _Mend


def _rule(words: str, what: str, mend: _Mend) -> _Rule:
    return _Rule(re.compile(words), what, mend)


_RULES: Final = (
    _rule(
        r'violates PodSecurity "(?P<level>\w+):',
        "the Pod Security level `{level}` of namespace {namespace} does not admit a task's Pod",
        _pod_security,
    ),
    _rule(
        r"exceeded quota: (?P<quota>[^,\s]+)",
        "the ResourceQuota `{quota}` of namespace {namespace} has no room for a task",
        _exceeded_quota,
    ),
    _rule(
        r"failed quota: (?P<quota>[^:\s]+)",
        "the ResourceQuota `{quota}` of namespace {namespace} refuses a task's Pod",
        _failed_quota,
    ),
    _rule(
        r"(?:maximum|minimum) \S+ usage per|max limit to request ratio",
        "a LimitRange of namespace {namespace} refuses a task's Pod",
        _limit_range,
    ),
    _rule(
        r'serviceaccount "(?P<account>[^"]+)" not found',
        "the service account `{account}` of task Pods does not exist in namespace {namespace}",
        _service_account,
    ),
    _rule(
        r"no (?P<kind>PriorityClass) with name (?P<name>\S+)",
        "the PriorityClass `{name}` of task Pods does not exist",
        _class("priorityClassName"),
    ),
    _rule(
        r'(?P<kind>RuntimeClass) "(?P<name>[^"]+)" not found',
        "the RuntimeClass `{name}` of task Pods does not exist",
        _class("runtimeClassName"),
    ),
    _rule(
        r'failed calling webhook "(?P<name>[^"]+)"',
        "the admission webhook `{name}` does not answer, so that no task's Pod is admitted",
        _webhook,
    ),
    _rule(
        r"(?:admission webhook \"|ValidatingAdmissionPolicy ')(?P<name>[^\"']+)[\"']",
        "the admission policy `{name}` refuses a task's Pod",
        _policy,
    ),
    _rule(r'namespaces? "(?P<name>[^"]+)" not found', "the namespace {namespace} does not exist", _namespace),
    _rule(
        r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"',
        "the worker may not {verb} {resource} in namespace {namespace}",
        _permission,
    ),
)


def explain_refusal(words: str, config: KubernetesConfig) -> Finding:
    """Explain why a Job or a Pod was not admitted, from what the cluster said."""
    told = refusal_message(words)
    for rule in _RULES:
        found = rule.words.search(told)
        if found is not None:
            groups = found.groupdict()
            what = rule.what.format(**groups, namespace=config.namespace)
            return Finding(what, told, rule.mend(groups, config))
    return Finding(
        f"the cluster does not admit a task's Pod in namespace {config.namespace}",
        told,
        "change backend.kubernetes.pod_template to what the cluster admits",
    )


def refusal_message(message: str) -> str:
    """What the cluster said, without the Job controller's own words before it."""
    return _CREATING.sub("", message.strip())


def is_temporary_refusal(words: str) -> bool:
    """Whether the next attempt may be admitted although this one was not.

    Only a refusal that the API server words as one is final. All else is about the attempt, such
    as a connection that broke: the Pod may even have been created.
    """
    return _REFUSING.search(words) is None or _PASSING.search(words) is not None

"""Explains why a cluster does not admit a task's Job or its Pod. Pure.

The message is from the API server's admission plugins, its policies, or an admission webhook. It
comes as the error of a creation, or in the event ``FailedCreate`` of a Job whose Pods are refused.
"""

import re
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.worker.config.schema import KubernetesConfig

from .finding import Finding

__all__ = ["explain_refusal", "is_temporary_refusal", "refusal_message"]

_CREATING: Final = re.compile(r"^Error creating: ")
# The API server's texts for a refused object: from admission, authorization, validation and webhooks.
_REFUSING: Final = re.compile(r'is forbidden|is invalid|denied (?:the )?request|" not found')
# A refusal of one attempt, not of the Pod: webhook calls, time-outs, conflicts, and an API server that
# has just started (its plugins are not ready, its roles are not loaded).
_PASSING: Final = re.compile(
    r"failed calling webhook|internal error|time-?out|timed out|deadline exceeded|connection refused"
    r"|unavailable|too many requests|object has been modified|not yet ready to handle request"
    r'|User "[^"]*" cannot ',
    re.IGNORECASE,
)

_LOWER_LEVEL: Final = "kubectl label namespace {namespace} pod-security.kubernetes.io/enforce=%s --overwrite"
_NO_ROOT_COPY: Final = (
    "use_image_volumes: true  # else sidecars are copied by a container that runs as root\n"
)


@dataclass(frozen=True, slots=True)
class _Rule:
    """What a refusal means. The texts may name ``namespace``, ``no_root_copy`` and the pattern's groups."""

    pattern: re.Pattern[str]
    what: str
    advice: str


def _rule(pattern: str, what: str, advice: str) -> _Rule:
    return _Rule(re.compile(pattern), what, advice)


_POD_SECURITY: Final = "the Pod Security level `{level}` of namespace {namespace} does not admit a task's Pod"
_CORRECT_CLASS: Final = "create it, or correct backend.kubernetes.pod_template.%s (kubectl get %s)"

#: The first rule whose pattern is found explains a refusal.
_RULES: Final = (
    _rule(
        r'violates PodSecurity "(?P<level>restricted):',
        _POD_SECURITY,
        """\
give the Pods what the level asks for, under backend.kubernetes:
{no_root_copy}pod_template:
  securityContext:
    {{runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: task
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
or lower the level:
"""
        + _LOWER_LEVEL % "baseline",
    ),
    _rule(
        r'violates PodSecurity "(?P<level>\w+):',
        _POD_SECURITY,
        "remove from backend.kubernetes.pod_template what the cluster names, or lower the level:\n"
        + _LOWER_LEVEL % "privileged",
    ),
    _rule(
        r"exceeded quota: (?P<quota>[^,\s]+)",
        "the ResourceQuota `{quota}` of namespace {namespace} has no room for a task",
        "raise the quota (kubectl -n {namespace} edit resourcequota {quota}), or delete what fills it"
        " (kubectl -n {namespace} get jobs,pods)",
    ),
    _rule(
        r"failed quota: (?P<quota>[^:\s]+)",
        "the ResourceQuota `{quota}` of namespace {namespace} refuses a task's Pod",
        "the quota {quota} wants every container to say what it needs: set"
        " backend.kubernetes.resources for tasks and backend.kubernetes.preflight_resources for the"
        " preflight, or give the namespace defaults with a LimitRange",
    ),
    _rule(
        r"(?:maximum|minimum) \S+ usage per|max limit to request ratio",
        "a LimitRange of namespace {namespace} refuses a task's Pod",
        "keep backend.kubernetes.preflight_resources (and backend.kubernetes.resources, for tasks) within"
        " the limits of the namespace: kubectl -n {namespace} describe limitrange",
    ),
    _rule(
        r'serviceaccount "(?P<account>[^"]+)" not found',
        "the service account `{account}` of task Pods does not exist in namespace {namespace}",
        "create it (kubectl -n {namespace} create serviceaccount {account}), or correct"
        " backend.kubernetes.service_account (pod_template.serviceAccountName)",
    ),
    _rule(
        r"no PriorityClass with name (?P<name>\S+)",
        "the PriorityClass `{name}` of task Pods does not exist",
        _CORRECT_CLASS % ("priorityClassName", "priorityclass"),
    ),
    _rule(
        r'RuntimeClass "(?P<name>[^"]+)" not found',
        "the RuntimeClass `{name}` of task Pods does not exist",
        _CORRECT_CLASS % ("runtimeClassName", "runtimeclass"),
    ),
    _rule(
        r'failed calling webhook "(?P<name>[^"]+)"',
        "the admission webhook `{name}` does not answer, so that no task's Pod is admitted",
        "have the cluster's administrators repair the webhook, or exempt the namespace {namespace} from it",
    ),
    _rule(
        r"(?:admission webhook \"|ValidatingAdmissionPolicy ')(?P<name>[^\"']+)[\"']",
        "the admission policy `{name}` refuses a task's Pod",
        "give the Pods what the policy asks for, with backend.kubernetes.pod_template, extra_labels or"
        " extra_annotations; or have the namespace {namespace} exempted from it",
    ),
    _rule(
        r'namespaces? "(?P<name>[^"]+)" not found',
        "the namespace {namespace} does not exist",
        "create it (kubectl create namespace {namespace}), or correct backend.kubernetes.namespace",
    ),
    _rule(
        r'cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)" in API group "(?P<group>[^"]*)"',
        "the worker may not {verb} {resource} in namespace {namespace}",
        "let the Role that is bound to the worker in namespace {namespace} {verb} {resource}"
        ' (apiGroups: ["{group}"])',
    ),
)


def explain_refusal(message: str, config: KubernetesConfig) -> Finding:
    """Explain why a Job or a Pod was not admitted, from the API server's message."""
    quote = refusal_message(message)
    for rule in _RULES:
        found = rule.pattern.search(quote)
        if found is not None:
            names = {
                **found.groupdict(),
                "namespace": config.namespace,
                "no_root_copy": "" if config.use_image_volumes else _NO_ROOT_COPY,
            }
            return Finding(rule.what.format(**names), quote, rule.advice.format(**names))
    return Finding(
        f"the cluster does not admit a task's Pod in namespace {config.namespace}",
        quote,
        "change backend.kubernetes.pod_template to what the cluster admits",
    )


def refusal_message(message: str) -> str:
    """Return the cluster's message without the Job controller's own text before it."""
    return _CREATING.sub("", message.strip())


def is_temporary_refusal(message: str) -> bool:
    """Whether the next attempt may be admitted although this one was not.

    Only a message by which the API server refuses an object is final. Any other is about the one
    attempt, such as a connection that broke: the Pod may even have been created.
    """
    return _REFUSING.search(message) is None or _PASSING.search(message) is not None

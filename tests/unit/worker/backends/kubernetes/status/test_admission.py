"""Messages for an operator whose cluster does not admit a task: the texts, whole."""

import pytest

from oz_agent_worker.worker.backends.kubernetes.status.admission import (
    explain_refusal,
    is_temporary_refusal,
    refusal_message,
)
from oz_agent_worker.worker.config.schema import KubernetesConfig

CONFIG = KubernetesConfig(namespace="agents")

# Words of a kube-apiserver 1.35, but for the webhooks', which are Gatekeeper's and Kyverno's.
POD = 'Error creating: pods "oz-preflight-1-abcde" is forbidden: '
RESTRICTED = 'violates PodSecurity "restricted:latest": runAsNonRoot != true (container "task" must set it)'
BASELINE = 'violates PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
QUOTA = "exceeded quota: small, requested: pods=1, used: pods=4, limited: pods=4"
SILENT = "failed quota: cpu: must specify limits.cpu for: task; requests.memory for: task"
LIMIT = "maximum cpu usage per Container is 50m, but limit is 100m"
ACCOUNT = 'error looking up service account agents/bot: serviceaccount "bot" not found'
GATEKEEPER = (
    'admission webhook "validation.gatekeeper.sh" denied the request: [need-team] label team is missing'
)
KYVERNO = 'admission webhook "validate.kyverno.svc-fail" denied the request: no root: rule root failed'
CEL = "ValidatingAdmissionPolicy 'need-team' with binding 'b' denied request: label team is required"
AWAY = 'Internal error occurred: failed calling webhook "policy.example.com": connection refused'

POD_PREFIX = 'pods "oz-preflight-1-abcde" is forbidden: '

GOLDEN = {
    "restricted": (
        POD + RESTRICTED,
        f"""\
the Pod Security level `restricted` of namespace agents does not admit a task's Pod
  the cluster says: {POD_PREFIX}{RESTRICTED}
  fix: give the Pods what the level asks for, under backend.kubernetes:
    use_image_volumes: true  # else sidecars are copied by a container that runs as root
    pod_template:
      securityContext:
        {{runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: task
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    or lower the level:
    kubectl label namespace agents pod-security.kubernetes.io/enforce=baseline --overwrite""",
    ),
    "baseline": (
        POD + BASELINE,
        f"""\
the Pod Security level `baseline` of namespace agents does not admit a task's Pod
  the cluster says: {POD_PREFIX}{BASELINE}
  fix: remove from backend.kubernetes.pod_template what the cluster names, or lower the level:
    kubectl label namespace agents pod-security.kubernetes.io/enforce=privileged --overwrite""",
    ),
    "quota": (
        POD + QUOTA,
        f"""\
the ResourceQuota `small` of namespace agents has no room for a task
  the cluster says: {POD_PREFIX}{QUOTA}
  fix: raise the quota (kubectl -n agents edit resourcequota small), or delete what fills it\
 (kubectl -n agents get jobs,pods)""",
    ),
    "quota that wants resources said": (
        POD + SILENT,
        f"""\
the ResourceQuota `cpu` of namespace agents refuses a task's Pod
  the cluster says: {POD_PREFIX}{SILENT}
  fix: the quota cpu wants every container to say what it needs: set backend.kubernetes.resources\
 for tasks and backend.kubernetes.preflight_resources for the preflight, or give the namespace defaults\
 with a LimitRange""",
    ),
    "limit range": (
        POD + LIMIT,
        f"""\
a LimitRange of namespace agents refuses a task's Pod
  the cluster says: {POD_PREFIX}{LIMIT}
  fix: keep backend.kubernetes.preflight_resources (and backend.kubernetes.resources, for tasks)\
 within the limits of the namespace: kubectl -n agents describe limitrange""",
    ),
    "service account": (
        POD + ACCOUNT,
        f"""\
the service account `bot` of task Pods does not exist in namespace agents
  the cluster says: {POD_PREFIX}{ACCOUNT}
  fix: create it (kubectl -n agents create serviceaccount bot), or correct\
 backend.kubernetes.service_account (pod_template.serviceAccountName)""",
    ),
    "priority class": (
        POD + "no PriorityClass with name low was found",
        f"""\
the PriorityClass `low` of task Pods does not exist
  the cluster says: {POD_PREFIX}no PriorityClass with name low was found
  fix: create it, or correct backend.kubernetes.pod_template.priorityClassName\
 (kubectl get priorityclass)""",
    ),
    "runtime class": (
        POD + 'pod rejected: RuntimeClass "gvisor" not found',
        f"""\
the RuntimeClass `gvisor` of task Pods does not exist
  the cluster says: {POD_PREFIX}pod rejected: RuntimeClass "gvisor" not found
  fix: create it, or correct backend.kubernetes.pod_template.runtimeClassName\
 (kubectl get runtimeclass)""",
    ),
    "Gatekeeper": (
        f"Error creating: {GATEKEEPER}",
        f"""\
the admission policy `validation.gatekeeper.sh` refuses a task's Pod
  the cluster says: {GATEKEEPER}
  fix: give the Pods what the policy asks for, with backend.kubernetes.pod_template, extra_labels\
 or extra_annotations; or have the namespace agents exempted from it""",
    ),
    "a webhook that is away": (
        f"Error creating: {AWAY}",
        f"""\
the admission webhook `policy.example.com` does not answer, so that no task's Pod is admitted
  the cluster says: {AWAY}
  fix: have the cluster's administrators repair the webhook, or exempt the namespace agents from it""",
    ),
    "no namespace": (
        'namespaces "agents" not found',
        """\
the namespace agents does not exist
  the cluster says: namespaces "agents" not found
  fix: create it (kubectl create namespace agents), or correct backend.kubernetes.namespace""",
    ),
    "permission": (
        'jobs.batch is forbidden: User "bot" cannot create resource "jobs" in API group "batch"',
        """\
the worker may not create jobs in namespace agents
  the cluster says: jobs.batch is forbidden: User "bot" cannot create resource "jobs" in API group "batch"
  fix: let the Role that is bound to the worker in namespace agents create jobs\
 (apiGroups: ["batch"])""",
    ),
    "anything else": (
        POD + "the moon is in the wrong phase",
        f"""\
the cluster does not admit a task's Pod in namespace agents
  the cluster says: {POD_PREFIX}the moon is in the wrong phase
  fix: change backend.kubernetes.pod_template to what the cluster admits""",
    ),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_a_refusal_is_explained(case: str) -> None:
    refusal, text = GOLDEN[case]
    assert str(explain_refusal(refusal, CONFIG)) == text


@pytest.mark.parametrize(("refusal", "name"), [(KYVERNO, "validate.kyverno.svc-fail"), (CEL, "need-team")])
def test_policies_are_named(refusal: str, name: str) -> None:
    assert explain_refusal(refusal, CONFIG).what == f"the admission policy `{name}` refuses a task's Pod"


def test_image_volumes_are_not_suggested_where_they_are_used() -> None:
    config = KubernetesConfig(namespace="agents", use_image_volumes=True)
    assert "use_image_volumes" not in explain_refusal(POD + RESTRICTED, config).advice


def test_the_job_controllers_own_text_is_left_out() -> None:
    assert refusal_message(f"Error creating: {KYVERNO}") == KYVERNO


# The words of an API server that was killed and started again, seen by its Job controller.
BROKEN = 'Post "https://10.0.0.1:443/api/v1/namespaces/agents/pods": '
STARTING = [
    BROKEN + "unexpected EOF",
    BROKEN + "read tcp 10.0.0.2:38584->10.0.0.1:443: read: connection reset by peer",
    BROKEN + "http2: client connection lost",
    POD_PREFIX + "not yet ready to handle request",
    'pods is forbidden: User "system:serviceaccount:kube-system:job-controller" cannot create resource "pods"'
    ' in API group "" in the namespace "agents"',
]


@pytest.mark.parametrize(
    "refusal", [AWAY, "etcdserver: request timed out", "Timeout: request did not complete", *STARTING]
)
def test_a_failed_attempt_may_heal(refusal: str) -> None:
    assert is_temporary_refusal(refusal)


@pytest.mark.parametrize("refusal", [RESTRICTED, QUOTA, SILENT, LIMIT, ACCOUNT, GATEKEEPER, KYVERNO, CEL])
def test_a_refusal_does_not_heal(refusal: str) -> None:
    assert not is_temporary_refusal(POD + refusal)

"""What a start that fails says: the texts, whole."""

from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    Status,
    UnreachableError,
    UntrustedServerError,
    status_error,
)
from oz_agent_worker.worker.backends.kubernetes.preflight.permissions import (
    Permission,
    explain_refusals,
    needed_permissions,
    summary,
)
from oz_agent_worker.worker.backends.kubernetes.status.finding import (
    Finding,
    explain_api_error,
    explain_field_errors,
)
from oz_agent_worker.worker.config.schema import KubernetesConfig

CONFIG = KubernetesConfig(namespace="agents")
ALL = "jobs: create, get, list, watch, delete; pods: get, list, watch; pods/log: get; events: list"
EVENTS = Permission("", "events", "list", "say why a task does not start")
FORBIDDEN_MESSAGE = 'events is forbidden: User "bot" cannot list resource "events" in API group ""'


def error_text(error: ApiError) -> str:
    return str(
        explain_api_error(
            error,
            server="https://k8s:6443",
            description='context "prod" of ~/.kube/config',
            namespace="agents",
            permissions=summary(needed_permissions(CONFIG)),
        )
    )


def status(code: int, message: str) -> ApiError:
    return status_error(code, Status(message=message), verb="list", path="/x")


def test_parts_that_are_empty_are_left_out() -> None:
    assert str(Finding("it failed")) == "it failed"
    assert str(Finding("it failed", advice="do this:\nthat")) == "it failed\n  fix: do this:\n    that"


def test_credentials_that_are_refused() -> None:
    assert error_text(status(401, "Unauthorized")) == (
        "the Kubernetes API server https://k8s:6443 does not accept the credentials of"
        ' context "prod" of ~/.kube/config\n'
        "  the cluster says: Unauthorized\n"
        "  fix: they may have expired: log in to the cluster again, or check the token or client"
        " certificate"
    )


def test_a_server_that_forbids() -> None:
    assert error_text(status(403, FORBIDDEN_MESSAGE)) == (
        "the Kubernetes API server https://k8s:6443 forbids what tasks need in namespace 'agents'\n"
        f"  the cluster says: {FORBIDDEN_MESSAGE}\n"
        f'  fix: give the worker\'s Role (context "prod" of ~/.kube/config) all that it needs: {ALL}'
    )


def test_k1_a_server_that_cannot_be_verified() -> None:
    cause = "certificate verify failed; it was verified against cluster 'k': certificate-authority /ca.crt"
    assert error_text(UntrustedServerError("https://k8s:6443", cause)) == (
        'the Kubernetes backend cannot start (context "prod" of ~/.kube/config): the API server'
        f" https://k8s:6443 cannot be reached: {cause}\n"
        "  fix: check that this certificate authority signed the API server's certificate, that the"
        " certificate has the name of this address (else set the kubeconfig's tls-server-name), and that"
        " no proxy decrypts the connection"
    )


def test_a_server_that_cannot_be_reached() -> None:
    assert error_text(UnreachableError("https://k8s:6443", "Connection refused")) == (
        'the Kubernetes backend cannot start (context "prod" of ~/.kube/config): the API server'
        " https://k8s:6443 cannot be reached: Connection refused\n"
        "  fix: check that the cluster runs, that this is its address, and that a firewall or proxy"
        " lets this machine reach it"
    )


def test_a_server_that_is_not_well() -> None:
    assert error_text(status(500, "etcd is gone")) == (
        "the Kubernetes API server https://k8s:6443 cannot do what the worker asks"
        ' (context "prod" of ~/.kube/config)\n'
        "  the cluster says: etcd is gone\n"
        "  fix: check that this is the API server's address, and its health"
        " (kubectl get --raw /readyz)"
    )


def test_one_permission_that_is_missing() -> None:
    diagnosis = explain_refusals({EVENTS: FORBIDDEN_MESSAGE}, "in-cluster", "agents")
    assert str(diagnosis) == (
        "the worker lacks permissions in namespace 'agents':"
        " events: list (to say why a task does not start)\n"
        f"  the cluster says: {FORBIDDEN_MESSAGE}\n"
        "  fix: add to the Role that is bound to the worker (in-cluster):\n"
        '    - {apiGroups: [""], resources: ["events"], verbs: [list]}'
    )


def test_all_permissions_that_are_missing() -> None:
    refused = dict.fromkeys(needed_permissions(CONFIG), FORBIDDEN_MESSAGE)
    text = str(explain_refusals(refused, "in-cluster", "agents"))
    assert text == (
        f"the worker lacks permissions in namespace 'agents': {ALL}\n"
        f"  the cluster says: {FORBIDDEN_MESSAGE}\n"
        "  fix: add to the Role that is bound to the worker (in-cluster):\n"
        '    - {apiGroups: ["batch"], resources: ["jobs"], verbs: [create, get, list, watch, delete]}\n'
        '    - {apiGroups: [""], resources: ["pods"], verbs: [get, list, watch]}\n'
        '    - {apiGroups: [""], resources: ["pods/log"], verbs: [get]}\n'
        '    - {apiGroups: [""], resources: ["events"], verbs: [list]}'
    )


def test_a_secret_for_variables_needs_its_permission_only_where_it_is_wanted() -> None:
    assert "secrets: create" not in map(str, needed_permissions(CONFIG))
    assert "secrets: create" in map(str, needed_permissions(KubernetesConfig(task_env_secret=True)))


def test_unknown_fields() -> None:
    problems = ["backend.kubernetes.pod_template.nodeSelectr: unknown field; did you mean `nodeSelector`?"]
    assert str(explain_field_errors(problems, 'unknown field "spec.template.spec.nodeSelectr"')) == (
        "the Job of a task is not what Kubernetes takes:\n"
        "  backend.kubernetes.pod_template.nodeSelectr: unknown field; did you mean `nodeSelector`?\n"
        '  the cluster says: unknown field "spec.template.spec.nodeSelectr"\n'
        "  fix: correct the config file; `kubectl explain pod.spec` lists what a PodSpec can hold"
    )

"""Parses kubeconfig files, merges them by kubectl's rules, and selects one cluster and one user.

Pure functions of the files' texts and paths; ``credentials`` finds and reads the files. Only the
entries that the context names are decoded, so that a mistake in another entry does no harm. No error
quotes a value that may be a secret.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from oz_agent_worker.common.proxy import ProxyError, parse_proxy
from oz_agent_worker.common.secret import Secret

from .identity import Cluster, ClusterUser, CredentialsError, ExecConfig, Pem, decode_base64, endpoint_url

__all__ = ["Kubeconfig", "Selection", "merge_kubeconfigs", "parse_kubeconfig"]

_EXEC_VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_EXEC_EXTENSION: Final = "client.authentication.k8s.io/exec"


class _Named(msgspec.Struct, frozen=True):
    """An item of ``clusters``, ``users`` or ``contexts``."""

    name: str
    cluster: dict[str, Any] | None = None
    user: dict[str, Any] | None = None
    context: dict[str, Any] | None = None


class _File(msgspec.Struct, frozen=True, rename="kebab"):
    kind: str | None = None
    current_context: str | None = None
    clusters: list[_Named] | None = None
    users: list[_Named] | None = None
    contexts: list[_Named] | None = None


class _Context(msgspec.Struct, frozen=True):
    cluster: str | None = None
    user: str | None = None
    namespace: str | None = None


class _Extension(msgspec.Struct, frozen=True):
    name: str
    extension: Any = None


class _Cluster(msgspec.Struct, frozen=True, rename="kebab"):
    server: str | None = None
    certificate_authority: str | None = None
    certificate_authority_data: Secret | None = None
    insecure_skip_tls_verify: bool | None = None
    tls_server_name: str | None = None
    proxy_url: str | None = None
    extensions: list[_Extension] | None = None


class _EnvVar(msgspec.Struct, frozen=True):
    name: str
    value: Secret


class _Exec(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str | None = None
    command: str | None = None
    args: list[str] | None = None
    env: list[_EnvVar] | None = None
    install_hint: str | None = None
    provide_cluster_info: bool | None = None
    interactive_mode: str | None = None


class _User(msgspec.Struct, frozen=True, rename="kebab"):
    token: Secret | None = None
    token_file: str | None = msgspec.field(default=None, name="tokenFile")
    client_certificate: str | None = None
    client_certificate_data: Secret | None = None
    client_key: str | None = None
    client_key_data: Secret | None = None
    username: str | None = None
    password: Secret | None = None
    exec_: _Exec | None = msgspec.field(default=None, name="exec")
    auth_provider: dict[str, Any] | None = None


@dataclass(frozen=True)
class _KubeconfigEntry:
    """One named entry as its file has it. Relative paths in it start at the file's folder."""

    file: Path
    fields: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Selection:
    """The cluster and the user that one context names."""

    context: str
    file: Path
    namespace: str | None
    cluster: Cluster
    user: ClusterUser


@dataclass(frozen=True)
class Kubeconfig:
    """One kubeconfig, or several merged. ``source`` names it in errors; ``entries`` are by kind and name."""

    source: str
    current_context: str | None
    entries: Mapping[str, Mapping[str, _KubeconfigEntry]]

    def select(self, context: str | None = None) -> Selection:
        """Resolve ``context``, or the current context where none is given.

        Raises:
            CredentialsError: no such context, cluster or user, or one that cannot be used.
        """
        name = context or self.current_context
        if not name:
            raise CredentialsError(
                f"kubeconfig {self.source} has no current-context; choose one of its contexts "
                f"({self._names('context')}) with `kubectl config use-context NAME`"
            )
        entry = self._find("context", name)
        chosen = _decode(entry, f"context {name!r}", _Context)
        if not chosen.cluster:
            raise CredentialsError(f"{entry.file}: context {name!r} names no cluster")
        named_by = f", which context {name!r} names"
        cluster = self._find("cluster", chosen.cluster, named_by)
        user = self._find("user", chosen.user, named_by) if chosen.user else None
        return Selection(
            context=name,
            file=entry.file,
            namespace=chosen.namespace or None,
            cluster=_cluster(cluster, f"cluster {chosen.cluster!r}"),
            user=_user(user, f"user {chosen.user!r}") if user else ClusterUser(),
        )

    def _find(self, kind: str, name: str, why: str = "") -> _KubeconfigEntry:
        entry = self.entries[kind].get(name)
        if entry is None:
            raise CredentialsError(
                f"kubeconfig {self.source} has no {kind} {name!r}{why}; its {kind}s: {self._names(kind)}"
            )
        return entry

    def _names(self, kind: str) -> str:
        return ", ".join(sorted(self.entries[kind])) or "none"


def parse_kubeconfig(text: str, path: Path) -> Kubeconfig:
    """Read the text of the kubeconfig file ``path``; an empty text is an empty kubeconfig.

    Raises:
        CredentialsError: no YAML (with its line), no kubeconfig, or a name given twice.
    """
    try:
        # A subclass of SafeLoader, or of its twin in C: it makes plain data alone.
        document = yaml.load(text, Loader=_Loader)  # noqa: S506
    except yaml.YAMLError as error:
        # The error's own text quotes the line, which may hold a token.
        raise CredentialsError(f"kubeconfig {path} is not valid YAML: {_yaml_problem(error)}") from None
    try:
        content = msgspec.convert({} if document is None else document, _File)
    except msgspec.ValidationError as error:
        raise CredentialsError(f"{path} is not a kubeconfig: {_shape_problem(error)}") from error
    if content.kind not in (None, "", "Config"):
        raise CredentialsError(f"{path} is not a kubeconfig: its kind is {content.kind!r}, not 'Config'")
    return Kubeconfig(
        source=str(path),
        current_context=content.current_context or None,
        entries={
            "context": _by_name(content.contexts, path, "context"),
            "cluster": _by_name(content.clusters, path, "cluster"),
            "user": _by_name(content.users, path, "user"),
        },
    )


def merge_kubeconfigs(configs: Sequence[Kubeconfig]) -> Kubeconfig:
    """Merge as kubectl does: the first to set a value or a name wins, whole entries at a time.

    Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
    """
    last_first = configs[::-1]
    return Kubeconfig(
        source=":".join(config.source for config in configs),
        current_context=next((config.current_context for config in configs if config.current_context), None),
        entries={
            kind: {name: entry for config in last_first for name, entry in config.entries[kind].items()}
            for kind in ("context", "cluster", "user")
        },
    )


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML without timestamps: a name such as 2026-01-31 is text in a kubeconfig."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (the base class's own name and shape)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _yaml_problem(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return "it holds a character that YAML does not allow"
    # A name in quotes was taken from the text; single characters and <tokens> were not.
    problem = re.sub(r"(['\"])(?!<)[^'\"]{2,}\1", "…", error.problem or "cannot be read")
    mark = error.problem_mark or error.context_mark
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def _shape_problem(error: msgspec.ValidationError) -> str:
    """Say what msgspec says in the terms of YAML. It names types and paths, never values."""
    problem, _, place = str(error).partition(" - at ")
    expected = problem.replace("`", "").replace("Expected", "expected")
    for ours, theirs in (("array", "list"), ("object", "mapping"), (" | null", "")):
        expected = expected.replace(ours, theirs)
    hint = " (put quotes around it)" if expected.startswith("expected str, got") else ""
    where = place.strip("`").removeprefix("$.")
    return f"{where}: {expected}{hint}" if place else f"{expected}{hint}"


def _by_name(items: list[_Named] | None, path: Path, kind: str) -> dict[str, _KubeconfigEntry]:
    entries: dict[str, _KubeconfigEntry] = {}
    for item in items or ():
        if item.name in entries:
            raise CredentialsError(f"kubeconfig {path} has two {kind}s with the name {item.name!r}")
        entries[item.name] = _KubeconfigEntry(path, getattr(item, kind) or {})
    return entries


_T = TypeVar("_T")


def _decode(entry: _KubeconfigEntry, what: str, shape: type[_T]) -> _T:
    try:
        return msgspec.convert(entry.fields, shape, dec_hook=_as_secret)
    except msgspec.ValidationError as error:
        raise CredentialsError(f"{entry.file}: {what}: {_shape_problem(error)}") from error


def _as_secret(wanted: type, value: object) -> object:
    if wanted is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def _pem(entry: _KubeconfigEntry, where: str, path: str | None, data: Secret | None) -> Pem | None:
    """PEM from a ``…-data`` field, which wins, or from the file of the field beside it."""
    if data:
        place = f"{entry.file}: {where}-data"
        return Pem(place, data=decode_base64(data, place))
    if path:
        file = entry.file.parent / path
        return Pem(f"{where} {file}", path=file)
    return None


def _cluster(entry: _KubeconfigEntry, what: str) -> Cluster:
    fields = _decode(entry, what, _Cluster)
    place = f"{entry.file}: {what}"
    if not fields.server:
        raise CredentialsError(f"{place} has no server")
    authority = _pem(
        entry,
        f"{what}: certificate-authority",
        fields.certificate_authority,
        fields.certificate_authority_data,
    )
    if fields.insecure_skip_tls_verify and authority:
        raise CredentialsError(
            f"{place}: insecure-skip-tls-verify and a certificate authority contradict each other; "
            "remove one of them"
        )
    extensions = {item.name: item.extension for item in fields.extensions or ()}
    return Cluster(
        server=endpoint_url(fields.server, f"{place}: server"),
        authority=authority,
        insecure=bool(fields.insecure_skip_tls_verify),
        tls_server_name=fields.tls_server_name or None,
        proxy_url=_proxy_url(fields.proxy_url, f"{place}: proxy-url") if fields.proxy_url else None,
        exec_extension=extensions.get(_EXEC_EXTENSION),
    )


def _proxy_url(url: str, where: str) -> str:
    """Check a proxy's address, which may contain a login. Without a scheme kubectl takes none."""
    try:
        proxy = parse_proxy(url, where)
    except ProxyError as error:
        raise CredentialsError(str(error)) from error
    if "://" not in url:
        raise CredentialsError(f"{where} has no scheme; begin it with http:// or https://")
    return url if proxy.user or proxy.password else proxy.url


def _user(entry: _KubeconfigEntry, what: str) -> ClusterUser:
    fields = _decode(entry, what, _User)
    place = f"{entry.file}: {what}"
    _refuse_unsupported(entry, fields, place)
    certificate = _pem(
        entry, f"{what}: client-certificate", fields.client_certificate, fields.client_certificate_data
    )
    client_key = _pem(entry, f"{what}: client-key", fields.client_key, fields.client_key_data)
    if (certificate is None) != (client_key is None):
        present, missing = ("certificate", "key") if certificate else ("key", "certificate")
        raise CredentialsError(f"{place} has a client-{present} but no client-{missing}")
    if fields.username and (fields.token or fields.token_file):
        raise CredentialsError(f"{place} has both a token and a username; only one may be set")
    if fields.password and not fields.username:
        raise CredentialsError(f"{place} has a password but no username")
    return ClusterUser(
        token=fields.token or None,
        token_file=entry.file.parent / fields.token_file if fields.token_file else None,
        certificate=(certificate, client_key) if certificate and client_key else None,
        username=fields.username or None,
        password=fields.password,
        exec_config=_exec_config(entry, place, fields.exec_) if fields.exec_ else None,
    )


def _refuse_unsupported(entry: _KubeconfigEntry, fields: _User, place: str) -> None:
    if fields.auth_provider is not None:
        name = fields.auth_provider.get("name")
        why = "this program does not run" if name == "oidc" else "Kubernetes removed in 1.26"
        raise CredentialsError(
            f"{place} uses the auth-provider {name!r}, which {why}; use the exec plugin that replaces it"
            " (kubectl oidc-login, gke-gcloud-auth-plugin, kubelogin, …)"
        )
    if any(entry.fields.get(name) for name in ("as", "as-uid", "as-groups", "as-user-extra")):
        # To ignore it would act with other rights than the file says.
        raise CredentialsError(
            f"{place} impersonates another user (`as…`), which this program does not do; "
            "use that user's own credentials"
        )


def _exec_config(entry: _KubeconfigEntry, place: str, fields: _Exec) -> ExecConfig:
    if not fields.command:
        raise CredentialsError(f"{place}: exec has no command")
    if fields.api_version not in _EXEC_VERSIONS:
        raise CredentialsError(
            f"{place}: exec.apiVersion is {fields.api_version!r}, but must be one of "
            f"{', '.join(_EXEC_VERSIONS)}; update the plugin and its kubeconfig entry"
        )
    if fields.interactive_mode not in (None, "", "Never", "IfAvailable"):
        raise CredentialsError(
            f"{place}: exec.interactiveMode is {fields.interactive_mode!r}, but must be Never or IfAvailable,"
            " because a worker has no terminal"
        )
    for variable in fields.env or ():
        if not variable.name or "=" in variable.name:
            raise CredentialsError(
                f"{place}: exec.env has the name {variable.name!r}, which no variable can have"
            )
    # As in kubectl: with a slash the command is a path relative to the file, else it is searched on PATH.
    command = str(entry.file.parent / fields.command) if "/" in fields.command else fields.command
    return ExecConfig(
        command=command,
        api_version=fields.api_version,
        args=tuple(fields.args or ()),
        env=tuple((variable.name, variable.value) for variable in fields.env or ()),
        install_hint=fields.install_hint or None,
        provide_cluster_info=bool(fields.provide_cluster_info),
    )

"""Kubeconfig files: parsed, merged by kubectl's rules, reduced to one cluster and one user.

Everything here is a pure function of the files' texts and paths; ``credentials`` finds
and reads the files. Only the entries that the context names are decoded, so that a
mistake in another cluster's entry stops nobody. No error quotes a value that may be a
secret.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import yaml

from oz_agent_worker.common.secret import Secret

from .identity import Cluster, CredentialsError, ExecConfig, Pem, User, decode_base64, endpoint_url

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


class _AuthProvider(msgspec.Struct, frozen=True):
    name: str | None = None


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
    auth_provider: _AuthProvider | None = None
    as_user: str | None = msgspec.field(default=None, name="as")
    as_uid: str | None = None
    as_groups: list[str] | None = None
    as_user_extra: dict[str, list[str]] | None = None


@dataclass(frozen=True)
class _Entry:
    """One named entry as its file has it; relative paths in it start at the file's folder."""

    file: Path
    fields: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Selection:
    """What one context stands for."""

    context: str
    file: Path
    namespace: str | None
    cluster: Cluster
    user: User


@dataclass(frozen=True)
class Kubeconfig:
    """One kubeconfig, or several merged. ``source`` names it in errors."""

    source: str
    current_context: str | None
    contexts: Mapping[str, _Entry]
    clusters: Mapping[str, _Entry]
    users: Mapping[str, _Entry]

    def select(self, context: str | None = None) -> Selection:
        """Resolve ``context``, or the current context where none is given.

        Raises:
            CredentialsError: no such context, cluster or user, or one that cannot be used.
        """
        name = context or self.current_context
        if not name:
            raise CredentialsError(
                f"kubeconfig {self.source} has no current-context; choose one of its contexts "
                f"({_listed(self.contexts)}) with `kubectl config use-context NAME`"
            )
        entry = self._find("context", name, self.contexts)
        chosen = _decode(entry, f"context {name!r}", _Context)
        if not chosen.cluster:
            raise CredentialsError(f"{entry.file}: context {name!r} names no cluster")
        named_by = f", which context {name!r} names"
        cluster = self._find("cluster", chosen.cluster, self.clusters, named_by)
        user = self._find("user", chosen.user, self.users, named_by) if chosen.user else None
        return Selection(
            context=name,
            file=entry.file,
            namespace=chosen.namespace or None,
            cluster=_cluster(cluster, f"cluster {chosen.cluster!r}"),
            user=_user(user, f"user {chosen.user!r}") if user else User(),
        )

    def _find(self, kind: str, name: str, known: Mapping[str, _Entry], why: str = "") -> _Entry:
        try:
            return known[name]
        except KeyError:
            raise CredentialsError(
                f"kubeconfig {self.source} has no {kind} {name!r}{why}; its {kind}s: {_listed(known)}"
            ) from None


def parse_kubeconfig(text: str, path: Path) -> Kubeconfig:
    """Read one kubeconfig file's text. ``path`` is where it stands; an empty text is an empty config.

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
        contexts=_by_name(content.contexts, path, "context"),
        clusters=_by_name(content.clusters, path, "cluster"),
        users=_by_name(content.users, path, "user"),
    )


def merge_kubeconfigs(configs: Sequence[Kubeconfig]) -> Kubeconfig:
    """Merge as kubectl does: the first to set a value or a name wins, whole entries at a time.

    Source: https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/
    """
    last_first = configs[::-1]
    return Kubeconfig(
        source=":".join(config.source for config in configs),
        current_context=next((config.current_context for config in configs if config.current_context), None),
        contexts={name: entry for config in last_first for name, entry in config.contexts.items()},
        clusters={name: entry for config in last_first for name, entry in config.clusters.items()},
        users={name: entry for config in last_first for name, entry in config.users.items()},
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


def _by_name(items: list[_Named] | None, path: Path, kind: str) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    for item in items or ():
        if item.name in entries:
            raise CredentialsError(f"kubeconfig {path} has two {kind}s with the name {item.name!r}")
        entries[item.name] = _Entry(path, getattr(item, kind) or {})
    return entries


_T = TypeVar("_T")


def _decode(entry: _Entry, what: str, shape: type[_T]) -> _T:
    try:
        return msgspec.convert(entry.fields, shape, dec_hook=_as_secret)
    except msgspec.ValidationError as error:
        raise CredentialsError(f"{entry.file}: {what}: {_shape_problem(error)}") from error


def _as_secret(wanted: type, value: object) -> object:
    if wanted is Secret and isinstance(value, str):
        return Secret(value)
    raise TypeError(f"Expected `str`, got `{type(value).__name__}`")


def _listed(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)) or "none"


def _pem(entry: _Entry, where: str, path: str | None, data: Secret | None) -> Pem | None:
    """PEM from a ``…-data`` field, which wins, or from the file of the field beside it."""
    if data:
        place = f"{entry.file}: {where}-data"
        return Pem(place, data=decode_base64(data, place))
    if path:
        file = entry.file.parent / path
        return Pem(f"{where} {file}", path=file)
    return None


def _cluster(entry: _Entry, what: str) -> Cluster:
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
        proxy_url=endpoint_url(fields.proxy_url, f"{place}: proxy-url", user_allowed=True)
        if fields.proxy_url
        else None,
        exec_extension=extensions.get(_EXEC_EXTENSION),
    )


def _user(entry: _Entry, what: str) -> User:
    fields = _decode(entry, what, _User)
    place = f"{entry.file}: {what}"
    _refuse_unsupported(fields, place)
    certificate = _pem(
        entry, f"{what}: client-certificate", fields.client_certificate, fields.client_certificate_data
    )
    client_key = _pem(entry, f"{what}: client-key", fields.client_key, fields.client_key_data)
    if (certificate is None) != (client_key is None):
        present, missing = ("certificate", "key") if certificate else ("key", "certificate")
        raise CredentialsError(f"{place} has a client-{present} but no client-{missing}")
    if fields.username and (fields.token or fields.token_file):
        raise CredentialsError(f"{place} has both a token and a username; only one may be set")
    return User(
        token=fields.token or None,
        token_file=entry.file.parent / fields.token_file if fields.token_file else None,
        certificate=(certificate, client_key) if certificate and client_key else None,
        username=fields.username or None,
        password=fields.password,
        exec_config=_exec_config(entry, place, fields.exec_) if fields.exec_ else None,
    )


def _refuse_unsupported(fields: _User, place: str) -> None:
    if fields.auth_provider:
        raise CredentialsError(
            f"{place} uses the auth-provider {fields.auth_provider.name!r}, which Kubernetes removed "
            "in 1.26; use the exec plugin that replaces it (gke-gcloud-auth-plugin, kubelogin, …)"
        )
    if fields.as_user or fields.as_uid or fields.as_groups or fields.as_user_extra:
        # To leave it out silently would act with other rights than the file says.
        raise CredentialsError(
            f"{place} impersonates another user (`as…`), which this program does not do; "
            "use credentials of the user itself"
        )


def _exec_config(entry: _Entry, place: str, fields: _Exec) -> ExecConfig:
    if not fields.command:
        raise CredentialsError(f"{place}: exec has no command")
    if fields.api_version not in _EXEC_VERSIONS:
        raise CredentialsError(
            f"{place}: exec.apiVersion is {fields.api_version!r}, but must be one of "
            f"{', '.join(_EXEC_VERSIONS)}; update the plugin and its kubeconfig entry"
        )
    if fields.interactive_mode == "Always":
        raise CredentialsError(
            f"{place}: exec.interactiveMode is Always, but a worker has no terminal; "
            "use credentials that need nobody's input"
        )
    if fields.interactive_mode not in (None, "", "Never", "IfAvailable"):
        raise CredentialsError(
            f"{place}: exec.interactiveMode is {fields.interactive_mode!r}, but must be Never or IfAvailable"
        )
    # As kubectl has it: with a slash the command is a path beside the file, else it is sought on PATH.
    command = str(entry.file.parent / fields.command) if "/" in fields.command else fields.command
    return ExecConfig(
        command=command,
        api_version=fields.api_version,
        args=tuple(fields.args or ()),
        env=tuple((variable.name, variable.value) for variable in fields.env or ()),
        install_hint=fields.install_hint or None,
        provide_cluster_info=bool(fields.provide_cluster_info),
    )

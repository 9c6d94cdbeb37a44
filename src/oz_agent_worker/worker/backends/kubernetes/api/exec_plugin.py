"""Exec plugins: programs named by a kubeconfig that print credentials.

``exec_info`` and ``parse_exec_credential`` are the protocol, without I/O. ``ExecPlugin`` runs the
program and keeps its credential until that expires. The program's output is secret: no error and no
log line shows it. Its error output is meant for people, and its last part goes into the error.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

import asyncio
import base64
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from oz_agent_worker.common.fault_log import FaultLog
from oz_agent_worker.common.secret import Secret
from oz_agent_worker.protocol.outcome import describe_exit_code

from .identity import Cluster, CredentialsError, ExecConfig, Pem
from .tls import read_pem

__all__ = ["ExecCredential", "ExecPlugin", "exec_info", "parse_exec_credential"]

_logger = logging.getLogger(__name__)

_WITHHELD: Final = frozenset({"WARP_API_KEY"})
"""Environment variables of this process that no plugin receives."""

_MARGIN: Final = 60.0
"""How many seconds before its expiry a credential is replaced; at most a fifth of its lifetime."""

_PAUSE: Final = 10.0
"""Seconds until the next run where one has failed and the kept credential is still valid."""

_FORCED_AGE: Final = 2.0
"""A credential younger than this, in seconds, is not replaced when the server refuses it.

Many requests in flight are refused at once, and one run is enough for all of them.
"""

#: How much of the end of a plugin's error output an error shows, in characters.
_STDERR_TAIL: Final = 2000


@dataclass(frozen=True)
class ExecCredential:
    """A plugin's credential: a token, a (certificate, key), or both. ``expires_at`` is in epoch seconds."""

    token: Secret | None = None
    certificate: tuple[Pem, Pem] | None = None
    expires_at: float | None = None


class _CredentialStatus(msgspec.Struct, frozen=True, rename="camel"):
    token: str | None = None
    client_certificate_data: str | None = None
    client_key_data: str | None = None
    expiration_timestamp: str | None = None


class _CredentialReply(msgspec.Struct, frozen=True, rename="camel"):
    api_version: str | None = None
    kind: str | None = None
    status: _CredentialStatus | None = None


def exec_info(config: ExecConfig, cluster: Cluster, authority_pem: str | None) -> str:
    """Return the value of KUBERNETES_EXEC_INFO, the plugin's input.

    The cluster is part of it only where ``provide_cluster_info`` asks for it. ``authority_pem`` is the
    text of its certificate authority.
    """
    spec: dict[str, Any] = {"interactive": False}
    if config.provide_cluster_info:
        details = {
            "server": cluster.server,
            "tls-server-name": cluster.tls_server_name,
            "insecure-skip-tls-verify": cluster.insecure or None,
            "certificate-authority-data": base64.b64encode((authority_pem or "").encode()).decode() or None,
            "proxy-url": cluster.proxy_url,
            "config": cluster.exec_extension,
        }
        spec["cluster"] = {name: value for name, value in details.items() if value is not None}
    document = {"apiVersion": config.api_version, "kind": "ExecCredential", "spec": spec}
    return msgspec.json.encode(document).decode()


def parse_exec_credential(output: bytes, api_version: str) -> ExecCredential:
    """Decode a plugin's output, which must be of ``api_version``.

    Raises:
        CredentialsError: it is no ExecCredential with a token or a certificate. The output is not
            quoted: it may be a secret in the wrong place.
    """
    try:
        reply = msgspec.json.decode(output, type=_CredentialReply)
    except msgspec.DecodeError as error:
        raise CredentialsError(f"its output is not an ExecCredential in JSON: {error}") from error
    if reply.kind != "ExecCredential":
        raise CredentialsError("its output is of another kind than ExecCredential")
    if reply.api_version != api_version:
        raise CredentialsError(f"its output is of another apiVersion than {api_version}")
    status = reply.status or _CredentialStatus()
    if bool(status.client_certificate_data) != bool(status.client_key_data):
        raise CredentialsError("its output has only one of clientCertificateData and clientKeyData")
    if not status.token and not status.client_certificate_data:
        raise CredentialsError("its output has neither a token nor a client certificate")
    certificate = None
    if status.client_certificate_data and status.client_key_data:
        certificate = (
            Pem("the exec plugin's clientCertificateData", data=Secret(status.client_certificate_data)),
            Pem("the exec plugin's clientKeyData", data=Secret(status.client_key_data)),
        )
    return ExecCredential(
        token=Secret(status.token) if status.token else None,
        certificate=certificate,
        expires_at=_timestamp(status.expiration_timestamp) if status.expiration_timestamp else None,
    )


class ExecPlugin:
    """Runs one plugin and keeps its credential until shortly before that expires.

    Callers at the same time share a run. A credential without an expiry is kept until the API
    server refuses it. ``clock`` gives epoch seconds; the program may take ``timeout`` seconds.
    """

    def __init__(
        self,
        config: ExecConfig,
        cluster: Cluster,
        *,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.time,
        timeout: float = 60.0,
    ) -> None:
        self._config = config
        self._cluster = cluster
        self._environ = environ
        self._clock = clock
        self._timeout = timeout
        self._name = f"the exec plugin {config.command}"
        self._faults = FaultLog(_logger, self._name)
        self._lock = asyncio.Lock()
        self._runs = 0
        self._failure: str | None = None
        self._credential: ExecCredential | None = None
        self._obtained_at = 0.0
        self._retry_at = 0.0

    async def credential(self, *, force: bool = False) -> ExecCredential:
        """Return a credential, and run the plugin if the kept one cannot be used.

        ``force`` asks for another one because the server refused this one.

        Raises:
            CredentialsError: the plugin failed, and no kept credential is still valid.
        """
        if self._credential and not self._is_due(force):
            return self._credential
        seen = self._runs
        async with self._lock:
            if self._runs == seen:
                await self._renew()
            # Else another caller's run ended while this one waited, and its result is shared.
            if self._credential and (self._failure is None or (not force and self._is_valid())):
                return self._credential
            raise CredentialsError(self._failure or "")

    async def _renew(self) -> None:
        try:
            self._credential = await self._run()
            self._failure = None
            self._obtained_at = self._clock()
            self._faults.works()
        except CredentialsError as error:
            self._failure = str(error)
            self._retry_at = self._clock() + _PAUSE
            if self._is_valid():
                self._faults.failed("fails, and its credential is still valid and kept", error)
        self._runs += 1

    def _is_due(self, force: bool) -> bool:
        """Whether the kept credential is to be replaced."""
        now = self._clock()
        if force:
            return not 0 <= now - self._obtained_at < _FORCED_AGE
        expires_at = self._credential.expires_at if self._credential else None
        if expires_at is None:
            return False
        margin = min(_MARGIN, 0.2 * (expires_at - self._obtained_at))
        waits_to_retry = self._failure is not None and self._is_valid() and now < self._retry_at
        return now >= expires_at - margin and not waits_to_retry

    def _is_valid(self) -> bool:
        """Whether there is a kept credential that has not expired."""
        kept = self._credential
        return kept is not None and (kept.expires_at is None or self._clock() < kept.expires_at)

    async def _run(self) -> ExecCredential:
        status, output, errors = await self._execute()
        try:
            if status == 0:
                return parse_exec_credential(output, self._config.api_version)
        except CredentialsError as error:
            raise CredentialsError(f"{self._name}: {error}{_quoted_tail(errors)}") from error
        code = describe_exit_code(status if status > 0 else 128 - status)
        raise CredentialsError(f"{self._name} failed with {code}{_quoted_tail(errors)}")

    async def _execute(self) -> tuple[int, bytes, bytes]:
        """Run the program to its end and return its status, output and error output."""
        environment = self._plugin_environment()
        try:
            process = await asyncio.create_subprocess_exec(
                self._config.command,
                *self._config.args,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise CredentialsError(f"{self._name} {self._start_failure(error, environment)}") from error
        except ValueError:  # a NUL byte; the error is not chained, because it may show an argument
            raise CredentialsError(f"{self._name} cannot be started: NUL byte") from None
        try:
            async with asyncio.timeout(self._timeout):
                output, errors = await process.communicate()
        except TimeoutError as error:
            raise CredentialsError(
                f"{self._name} gave no answer in {self._timeout:g} s; "
                "it must not wait for input, for it has no terminal"
            ) from error
        finally:
            # The plugin leads its own process group: what it started ends with it.
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        assert process.returncode is not None
        return process.returncode, output, errors

    def _plugin_environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in self._environ.items() if name not in _WITHHELD}
        own = {name: value.reveal() for name, value in self._config.env}
        authority = self._cluster.authority if self._config.provide_cluster_info else None
        pem = read_pem(authority) if authority else None
        return {**inherited, **own, "KUBERNETES_EXEC_INFO": exec_info(self._config, self._cluster, pem)}

    def _start_failure(self, error: OSError, environment: Mapping[str, str]) -> str:
        command = self._config.command
        hint = f"\n{self._config.install_hint.strip()}" if self._config.install_hint else ""
        if not isinstance(error, FileNotFoundError):
            return f"cannot be started: {error.strerror}{hint}"
        if shutil.which(command, path=environment.get("PATH")):
            return "cannot be started: its interpreter does not exist"
        place = "" if "/" in command else " on PATH"
        return f"was not found{place}; install it{hint}"


def _timestamp(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise CredentialsError("its output's expirationTimestamp is no RFC 3339 time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _quoted_tail(errors: bytes) -> str:
    text = errors.decode("utf-8", "replace").strip()
    tail = text if len(text) <= _STDERR_TAIL else f"…{text[-_STDERR_TAIL:]}"
    return f"; its error output:\n{tail}" if tail else ""

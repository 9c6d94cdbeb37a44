"""Finds out which worker this is, from the system and, in a cluster, from the API server."""

import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from oz_agent_worker.worker.backends.kubernetes.api import rest
from oz_agent_worker.worker.backends.kubernetes.api.client import KubernetesClient
from oz_agent_worker.worker.backends.kubernetes.api.credentials import SERVICE_ACCOUNT
from oz_agent_worker.worker.backends.kubernetes.api.errors import ApiStatusError, ForbiddenError
from oz_agent_worker.worker.backends.kubernetes.api.rest import PODS

from .instance import UNAVAILABLE, Instance, Machine, PodInstance, ProcessInstance

__all__ = ["own_instance", "own_namespace", "process_started", "this_machine", "this_process"]

PROC: Final = Path("/proc")
#: Positions of state and start time behind the command's name in /proc/PID/stat (proc_pid_stat(5)).
_STATE, _START_TIME = 0, 19


def this_machine(proc: Path = PROC) -> Machine:
    """Return the machine that this process runs on."""
    try:
        boot = (proc / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    host = socket.gethostname().replace("/", "-")
    return Machine(host or UNAVAILABLE, boot or UNAVAILABLE, _pid_namespace(proc))


def _pid_namespace(proc: Path) -> str:
    """Return the inode number of this PID namespace; the link is ``pid:[<number>]`` (namespaces(7))."""
    try:
        link = os.fspath((proc / "self/ns/pid").readlink())
    except OSError:
        return UNAVAILABLE
    return link.removeprefix("pid:[").removesuffix("]").replace("/", "-") or UNAVAILABLE


def process_started(pid: int, proc: Path = PROC) -> str | None:
    """Return when the process started, in clock ticks since the boot; ``None`` if no such process runs.

    ``UNAVAILABLE`` if one runs on a system without /proc.
    """
    if not (proc / "self/stat").exists():
        return UNAVAILABLE if _exists(pid) else None
    try:
        fields = (proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return UNAVAILABLE
    return None if fields[_STATE] in "ZXx" else fields[_START_TIME]


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def this_process(machine: Machine, proc: Path = PROC) -> ProcessInstance:
    """Return this process; if its start time is unknown, a random one."""
    pid = os.getpid()
    started = process_started(pid, proc)
    return ProcessInstance(
        machine, pid, secrets.token_hex(8) if started in (None, UNAVAILABLE) else str(started)
    )


async def own_instance(
    client: KubernetesClient,
    environ: Mapping[str, str],
    machine: Machine,
    *,
    own_cluster: bool,
    service_account: Path = SERVICE_ACCOUNT,
) -> Instance:
    """Find out which worker this is: a Pod that the API server knows, else a process.

    The Pod's name comes from the downward API (``OZ_POD_NAMESPACE``, ``OZ_POD_NAME``,
    ``OZ_POD_UID``), else from the service account and the hostname. It is looked up once, because the
    tasks may run in another cluster than the worker, where no Pod or another one has that name. If it
    may not be looked up, the downward API is trusted if ``own_cluster`` says that the API server is
    that of the worker's own cluster.

    Raises:
        ApiError: the API server cannot be asked.
    """
    namespace = own_namespace(environ, service_account)
    name = environ.get("OZ_POD_NAME") or environ.get("HOSTNAME")
    uid = environ.get("OZ_POD_UID")
    if not (namespace and name and (uid or own_cluster)):
        return this_process(machine)
    try:
        answer = await client.exchange(rest.get(PODS, namespace, name))
        found = rest.decode(rest.get(PODS, namespace, name), answer.body, PODS.decoder).metadata.uid
    except ForbiddenError:
        found = uid if own_cluster else None
    except ApiStatusError as error:
        if error.transient:
            raise
        found = None
    if not found or uid not in (None, found):
        return this_process(machine)
    return PodInstance(namespace, name, found)


def own_namespace(environ: Mapping[str, str], service_account: Path = SERVICE_ACCOUNT) -> str | None:
    """Return the namespace of the Pod that this process runs in; ``None`` if it is unknown."""
    if namespace := environ.get("OZ_POD_NAMESPACE"):
        return namespace
    try:
        return (service_account / "namespace").read_text().strip()
    except OSError:
        return None

"""One Pod on the played node: what a script can make happen to it, reported to the API server."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from tests.cluster.async_rest import STRATEGIC_PATCH, AsyncRestClient
from tests.cluster.errors import ApiError

from .logs import ContainerLog
from .states import ContainerState, Pod, Running, Terminated, Waiting, is_native_sidecar, timestamp
from .status import PodFacts, pod_status, unscheduled_status

__all__ = ["Behaviour", "Node", "PodGoneError", "PodRun", "Script"]

SIGTERM_EXIT: Final = 143
MAX_MESSAGE: Final = 2048
"""The most of a log that becomes a container's message, in bytes."""


class PodGoneError(Exception):
    """The Pod no longer exists, or is another one of the same name, or another node's."""


class Node(Protocol):
    """What a Pod's run needs of its node."""

    name: str

    def log(self, run: "PodRun", container: str) -> ContainerLog:
        """Return the log of one of the Pod's containers."""

    def pod_ip(self) -> str:
        """Return an address that no other Pod of the node has."""

    def published(self, run: "PodRun") -> None:
        """Note that the Pod's status has been written."""


class PodRun:
    """A Pod's life so far. Scripts call its methods; each one but ``write`` is a request to the API server.

    ``grace`` is how many seconds a container may take to end once the Pod is deleted.
    Once ``abandoned`` is set, the API server hears no more of the Pod: the node is gone.
    """

    def __init__(self, pod: Pod, node: Node, api: AsyncRestClient) -> None:
        self.pod = pod
        self.api = api
        self.namespace: str = pod["metadata"]["namespace"]
        self.name: str = pod["metadata"]["name"]
        self.uid: str = pod["metadata"]["uid"]
        self.grace = float(pod["spec"].get("terminationGracePeriodSeconds", 30))
        self.abandoned = False
        self.phase = "Pending"
        self._node = node
        self._path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self._bound = bool(pod["spec"].get("nodeName"))
        self._facts = PodFacts(node.pod_ip(), _now())
        inits = [item["name"] for item in pod["spec"].get("initContainers") or []]
        reason = "PodInitializing" if inits else "ContainerCreating"
        self._states: dict[str, ContainerState] = {
            item["name"]: Waiting(reason) for item in (*self._inits(), *pod["spec"]["containers"])
        }

    @property
    def main(self) -> str:
        """The name of the container that does the work: ``task``, or the first where there is none."""
        names = [item["name"] for item in self.pod["spec"]["containers"]]
        return "task" if "task" in names else str(names[0])

    @property
    def ended(self) -> bool:
        """The Pod has reached a phase that it never leaves."""
        return self.phase in {"Succeeded", "Failed"}

    def container(self, name: str) -> dict[str, Any]:
        """Return the specification of a container or init container."""
        found: dict[str, Any] = next(
            item for item in (*self._inits(), *self.pod["spec"]["containers"]) if item["name"] == name
        )
        return found

    async def bind(self) -> None:
        """Assign the Pod to this node, as the scheduler does; where that is done, do nothing."""
        if self._bound:
            return
        target = {"apiVersion": "v1", "kind": "Node", "name": self._node.name}
        metadata = {"name": self.name, "uid": self.uid}
        try:
            await self._request("POST", f"{self._path}/binding", {"metadata": metadata, "target": target})
        except PodGoneError:
            # The answer to a first attempt may have been lost: then the Pod is bound, and to this node.
            pod = await self._request("GET", self._path, None)
            if pod["metadata"]["uid"] != self.uid or pod["spec"].get("nodeName") != self._node.name:
                raise
        self._bound = True

    async def run(self) -> None:
        """All init containers have succeeded, and the others run."""
        self._complete_inits()
        for item in self.pod["spec"]["containers"]:
            self._states[item["name"]] = Running(_now())
        self.open_log(self.main)
        await self.publish()

    async def start_init(self, name: str) -> None:
        """Run one init container; those before it have succeeded."""
        for item in self._inits():
            if item["name"] == name:
                break
            self._complete_init(item)
        self._states[name] = Running(_now())
        self.open_log(name)
        await self.publish()

    async def end_init(self, name: str, exit_code: int, *, reason: str = "", message: str = "") -> None:
        """An init container ends; the Pod fails with it unless the exit code is 0."""
        self._states[name] = self._terminated(name, exit_code, reason, message)
        self.open_log(name).close()
        if exit_code != 0:
            self._end_sidecars()
        await self.publish()

    async def wait(self, reason: str, message: str = "", *, container: str | None = None) -> None:
        """A container cannot start, and waits; all before it have succeeded."""
        name = container or self.main
        inits = [item["name"] for item in self._inits()]
        for item in self._inits()[: inits.index(name)] if name in inits else self._inits():
            self._complete_init(item)
        self._states[name] = Waiting(reason, message)
        await self.publish()

    async def finish(self, exit_code: int = 0, *, reason: str = "", message: str = "") -> None:
        """The main container ends, and the Pod with it. One that had not started yet did so just before."""
        self._complete_inits()
        for item in self.pod["spec"]["containers"]:
            name = item["name"]
            mine = name == self.main
            self._states[name] = self._terminated(
                name, exit_code if mine else 0, reason if mine else "", message if mine else ""
            )
        self.open_log(self.main).close()
        self._end_sidecars()
        await self.publish()

    async def end(self, name: str, exit_code: int = 0) -> None:
        """One container ends; the others go on, and the Pod with them."""
        self._states[name] = self._terminated(name, exit_code, "", "")
        self.open_log(name).close()
        await self.publish()

    async def evict(self, message: str) -> None:
        """The node takes the Pod down, its containers killed."""
        self._facts = replace(self._facts, reason="Evicted", message=message)
        await self.finish(137)

    async def kill(self) -> None:
        """End what runs, because the Pod is being deleted; the Pod is Failed whatever it was."""
        if any(isinstance(state, Running) for state in self._states.values()):
            for name, state in self._states.items():
                if isinstance(state, Running):
                    self._states[name] = self._terminated(name, SIGTERM_EXIT, "", "")
                    self.open_log(name).close()
        for name, state in self._states.items():
            if isinstance(state, Waiting):
                message = "The container could not be located when the pod was terminated"
                self._states[name] = self._terminated(name, 137, "ContainerStatusUnknown", message)
        await self.publish()

    async def remove(self) -> None:
        """Delete the Pod for good: its containers are gone."""
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        await self._request("DELETE", self._path, options)

    async def disrupt(self, reason: str, message: str) -> None:
        """Somebody marks the Pod for a disruption and deletes it: scheduler, taint manager, eviction."""
        condition = {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}
        await self._patch({"conditions": [condition | {"lastTransitionTime": timestamp(_now())}]})
        await self._request("DELETE", self._path, {"preconditions": {"uid": self.uid}})

    async def unschedulable(self, message: str) -> None:
        """The scheduler finds no node for the Pod."""
        await self._patch(unscheduled_status(message, _now()))
        await self.event("FailedScheduling", message, component="default-scheduler")

    async def event(
        self, reason: str, message: str, *, kind: str = "Warning", component: str = "kubelet"
    ) -> None:
        """Record an Event about the Pod. ``kind`` is Warning or Normal."""
        now = timestamp(_now())
        body = {
            "metadata": {"generateName": f"{self.name}.", "namespace": self.namespace},
            "involvedObject": {
                "apiVersion": "v1",
                "kind": "Pod",
                "namespace": self.namespace,
                "name": self.name,
                "uid": self.uid,
            },
            "reason": reason,
            "message": message,
            "type": kind,
            "source": {"component": component, "host": self._node.name},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        await self._request("POST", f"/api/v1/namespaces/{self.namespace}/events", body)

    def open_log(self, container: str) -> ContainerLog:
        """Return the container's log, which exists from then on."""
        return self._node.log(self, container)

    def write(self, output: str | bytes, *, container: str | None = None) -> None:
        """Add to a container's log: what it writes on stdout or stderr."""
        data = output.encode() if isinstance(output, str) else output
        self.open_log(container or self.main).write(data)

    async def publish(self) -> None:
        """Write the Pod's status."""
        await self.bind()
        status = pod_status(self.pod, self._states, self._facts, _now())
        await self._patch(status)
        self.phase = status["phase"]
        self._node.published(self)

    async def _patch(self, status: dict[str, Any]) -> None:
        # The UID makes the server refuse the patch once another Pod has the name.
        body = {"metadata": {"uid": self.uid}, "status": status}
        answer = await self._request("PATCH", f"{self._path}/status", body, STRATEGIC_PATCH)
        self.pod["status"] = answer["status"]

    async def _request(
        self, method: str, path: str, body: Any, content_type: str = "application/json"
    ) -> Any:
        if self.abandoned:
            raise PodGoneError(f"{self.namespace}/{self.name}: its node has stopped")
        try:
            return await self.api.request(method, path, body, content_type)
        except ApiError as error:
            if error.status in {404, 409}:
                raise PodGoneError(f"{self.namespace}/{self.name}: {error}") from error
            if error.status == 403 and "being terminated" in error.body:
                raise PodGoneError(f"the namespace of {self.name} is being deleted") from error
            raise

    def _inits(self) -> list[dict[str, Any]]:
        return self.pod["spec"].get("initContainers") or []

    def _complete_inits(self) -> None:
        for item in self._inits():
            self._complete_init(item)

    def _complete_init(self, item: dict[str, Any]) -> None:
        state = self._states[item["name"]]
        if is_native_sidecar(item):
            if isinstance(state, Waiting):
                self._states[item["name"]] = Running(_now())
        elif not isinstance(state, Terminated):
            self._states[item["name"]] = self._terminated(item["name"], 0, "", "")

    def _end_sidecars(self) -> None:
        for item in self._inits():
            if is_native_sidecar(item) and isinstance(self._states[item["name"]], Running):
                self._states[item["name"]] = self._terminated(item["name"], 0, "", "")

    def _terminated(self, name: str, exit_code: int, reason: str, message: str) -> Terminated:
        state = self._states[name]
        now = _now()
        started = state.started if isinstance(state, Running) else now
        if exit_code and not message:
            message = self._termination_message(name)
        return Terminated(exit_code, reason or ("Error" if exit_code else "Completed"), started, now, message)

    def _termination_message(self, name: str) -> str:
        """What the kubelet takes for the message of a container that left none, where it is asked to."""
        if self.container(name).get("terminationMessagePolicy") != "FallbackToLogsOnError":
            return ""
        return self.open_log(name).end(MAX_MESSAGE).decode(errors="replace")


Script = Callable[[PodRun], Awaitable[None]]
"""The life of one Pod. It is cancelled when the Pod is deleted."""

Behaviour = Callable[[Pod], Script]
"""Chooses the script of each Pod that turns up."""


def _now() -> datetime:
    return datetime.now(UTC)

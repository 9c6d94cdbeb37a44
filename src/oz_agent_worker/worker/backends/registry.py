"""The backends by name. A backend is a package beside this module and one entry here.

An entry's functions import their package when they are called, so that a worker loads only the
libraries of its own backend. ``config.schema.BACKEND_SECTIONS`` has the section of the config file
for each backend.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from oz_agent_worker.errors import UsageError

if TYPE_CHECKING:
    from oz_agent_worker.worker.checks import Check
    from oz_agent_worker.worker.config.schema import DirectConfig, KubernetesConfig
    from oz_agent_worker.worker.events import Notify
    from oz_agent_worker.worker.peer import ControlPlanePeer

    from .base import Backend

__all__ = ["BACKENDS", "BackendContext", "BackendEntry", "implemented_backends"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendContext:
    """What a backend gets in addition to its section of the config file.

    ``default_agent`` is the agent's program for backends that run it on this host, in place of the
    one on PATH. ``peer`` is the control plane of which a backend may need more than the public protocol.
    """

    worker_id: str
    cleanup: bool
    environ: Mapping[str, str]
    notify: Notify
    default_agent: str | None = None
    peer: ControlPlanePeer | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendEntry:
    """One backend. Each function takes the backend's section of the config file first.

    ``create`` makes the backend. ``checks`` gives doctor's checks, which may use what is open
    until the context ends; its last argument says whether a check may create objects.
    ``problems`` finds what the schema of the section cannot check: the path of each problem, and a text
    that begins with it.
    An entry without ``create`` has a section in the config file and is refused at start.
    """

    name: str
    create: Callable[[Any, BackendContext], Backend] | None = None
    checks: Callable[[Any, BackendContext, bool], AbstractAsyncContextManager[Sequence[Check]]] | None = None
    problems: Callable[[Any], Iterable[tuple[str, str]]] = lambda _section: ()

    def not_implemented(self) -> UsageError:
        """Say that this version has no such backend, and which ones it has."""
        names = implemented_backends()
        flags = " or ".join(f"--backend {name}" for name in names)
        keys = " or ".join(f"backend.{name}" for name in names)
        return UsageError(
            f"the {self.name} backend is not part of this version: choose {flags}, "
            f"or set {keys} in the config file"
        )


def _create_direct(section: DirectConfig, context: BackendContext) -> Backend:
    from .direct.agent_program import bundled_agent
    from .direct.backend import DirectBackend

    return DirectBackend(
        section,
        worker_id=context.worker_id,
        cleanup=context.cleanup,
        environ=context.environ,
        default_agent=context.default_agent,
        bundled_agent=bundled_agent(),
        peer=context.peer,
        notify=context.notify,
    )


def _direct_checks(
    section: DirectConfig, context: BackendContext, _may_create: bool
) -> AbstractAsyncContextManager[Sequence[Check]]:
    from .direct.agent_program import AgentSources, bundled_agent
    from .direct.doctor import direct_checks

    agents = AgentSources(
        configured=section.oz_path,
        environ=context.environ,
        default=context.default_agent,
        bundled=bundled_agent(),
        peer=context.peer,
    )
    return nullcontext(direct_checks(section, worker_id=context.worker_id, agents=agents))


def _create_kubernetes(section: KubernetesConfig, context: BackendContext) -> Backend:
    from .kubernetes.backend import KubernetesBackend

    return KubernetesBackend(
        section,
        worker_id=context.worker_id,
        cleanup=context.cleanup,
        environ=context.environ,
        notify=context.notify,
    )


@asynccontextmanager
async def _kubernetes_checks(
    section: KubernetesConfig, context: BackendContext, may_create: bool
) -> AsyncIterator[Sequence[Check]]:
    from .kubernetes.preflight.preflight import Preflight

    async with aclosing(
        Preflight(
            section,
            worker_id=context.worker_id,
            cleanup=context.cleanup,
            environ=context.environ,
            may_create=may_create,
        )
    ) as preflight:
        yield preflight.checks()


def _kubernetes_problems(section: KubernetesConfig) -> Iterator[tuple[str, str]]:
    from .kubernetes.manifest.pod_template import shorthand_conflicts, template_problems

    for below, what in template_problems(section.pod_template):
        path = f"backend.kubernetes.{below}"
        yield path, f"{path}: {what}"
    for shorthand, field in shorthand_conflicts(section):
        path = f"backend.kubernetes.{shorthand}"
        both = f"{path} and backend.kubernetes.pod_template.{field} are both set, to different values"
        yield path, f"{both}: keep one of them"


#: In the order in which help texts and errors name them.
BACKENDS: Final[Mapping[str, BackendEntry]] = {
    entry.name: entry
    for entry in (
        BackendEntry(name="docker"),
        BackendEntry(name="direct", create=_create_direct, checks=_direct_checks),
        BackendEntry(
            name="kubernetes",
            create=_create_kubernetes,
            checks=_kubernetes_checks,
            problems=_kubernetes_problems,
        ),
        BackendEntry(name="command"),
    )
}


def implemented_backends() -> list[str]:
    """The names of the backends that this version can run."""
    return [entry.name for entry in BACKENDS.values() if entry.create is not None]

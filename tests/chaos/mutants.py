"""Three ways to break the worker's promises, to show that the harness sees it.

Each wraps functions of the product in the process of a victim; see ``tests.chaos.victim``.
"""

import asyncio
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["MUTANTS", "Mutant"]


@dataclass(frozen=True, slots=True)
class Mutant:
    """``change`` breaks the product in this process; a kill at one of ``shown_by`` shows it."""

    change: Callable[[], None]
    shown_by: tuple[str, ...]


#: Seconds in which a claim that goes out too early has left the process, however busy the machine.
_CLAIM_LEAVES: Final = 2.0


def outbox_off() -> None:
    """A report counts as delivered as soon as it is handed to the connection."""
    from oz_agent_worker.protocol.outbox import Outbox
    from oz_agent_worker.protocol.report import TerminalReport
    from oz_agent_worker.worker.worker import Worker

    workers: list[Any] = []
    opened, due = Worker.__init__, Outbox.due

    @functools.wraps(opened)
    def remember(self: Any, *arguments: Any, **named: Any) -> None:
        opened(self, *arguments, **named)
        workers.append(self)

    @functools.wraps(due)
    def forgetful(self: Any, barrier: int) -> list[Any]:
        entries = list(due(self, barrier))
        for ack_id, item in entries:
            if isinstance(item, TerminalReport):
                for worker in workers:
                    worker._delivered(tuple(self.confirm(ack_id)))
        return entries

    _replace(Worker, "__init__", remember)
    _replace(Outbox, "due", forgetful)


def delete_before_delivered() -> None:
    """What an execution left is removed as soon as its outcome is known."""
    from oz_agent_worker.worker.backends.kubernetes.execution import KubernetesExecution

    wait, release = KubernetesExecution.wait, KubernetesExecution.release

    @functools.wraps(wait)
    async def hasty(self: Any) -> Any:
        outcome = await wait(self)
        await release(self, outcome)
        return outcome

    async def nothing(self: Any, outcome: Any) -> None:
        """It was done already."""

    _replace(KubernetesExecution, "wait", hasty)
    _replace(KubernetesExecution, "release", nothing)


def claim_before_create() -> None:
    """The claim goes out before there is a Job."""
    from oz_agent_worker.worker.worker import Worker

    launch = Worker._launch

    @functools.wraps(launch)
    async def hasty(self: Any, run: Any, *arguments: Any) -> Any:
        self._claim(run)
        await asyncio.sleep(_CLAIM_LEAVES)
        return await launch(self, run, *arguments)

    _replace(Worker, "_launch", hasty)


def _replace(holder: Any, name: str, function: Callable[..., Any]) -> None:
    setattr(holder, name, function)


MUTANTS: Final[Mapping[str, Mutant]] = {
    "outbox-off": Mutant(outbox_off, ("report-received", "report-uncommitted")),
    "delete-before-delivered": Mutant(delete_before_delivered, ("report-unsent", "report-queued")),
    "claim-before-create": Mutant(claim_before_create, ("job-uncreated",)),
}
"""By name."""

"""What the worker asked of the API server, counted from the audit log. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.cluster.audit import AuditEntry

__all__ = ["ApiCosts", "count_costs"]

OPEN_STAGE = "ResponseStarted"


@dataclass(frozen=True, slots=True)
class ApiCosts:
    """Requests of one worker in one namespace, those of its start aside but for the watches.

    ``by_verb`` counts all, by verb and resource (with its subresource). ``changes`` are
    those that change an object; ``reads`` those that read one, or list again what a watch
    tells. Neither has log reads, nor ``checks``: the lists from the server's cache, which
    come with time and not with tasks.
    """

    by_verb: Mapping[tuple[str, str], int]
    changes: int
    reads: int
    checks: int
    watches_open: int
    watches_started: int
    refused: int

    def rows(self, tasks: int) -> Iterator[str]:
        """Yield a line for each verb and resource: how often, and how often a task."""
        yield f"{'verb':<8}  {'resource':<10}  {'requests':>8}  {'a task':>7}"
        for (verb, resource), count in sorted(self.by_verb.items()):
            yield f"{verb:<8}  {resource:<10}  {count:>8}  {count / tasks:>7.3f}"


def count_costs(entries: Iterable[AuditEntry], at_start: Collection[str]) -> ApiCosts:
    """Count one worker's requests in one namespace, taken while its watches are open.

    ``at_start`` are the IDs of those that it had made before it took a task.
    """
    entries = [e for e in entries if e.verb == "watch" or e.id not in at_start]
    lists = [e for e in entries if e.verb == "list"]
    checks = sum("resourceVersion=0" in e.request_uri for e in lists)
    gets = sum(e.verb == "get" and e.subresource != "log" for e in entries)
    watches = [e for e in entries if e.verb == "watch"]
    return ApiCosts(
        by_verb=Counter((e.verb, _resource(e)) for e in entries),
        changes=sum(e.verb not in {"get", "list", "watch"} for e in entries),
        reads=gets + len(lists) - checks,
        checks=checks,
        watches_open=sum(e.stage == OPEN_STAGE for e in watches),
        watches_started=len(watches),
        refused=sum(e.code >= 400 for e in entries),
    )


def _resource(entry: AuditEntry) -> str:
    return f"{entry.resource}/{entry.subresource}" if entry.subresource else entry.resource

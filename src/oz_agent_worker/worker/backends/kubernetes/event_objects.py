"""The fields of Events that the worker reads, and no others; see ``objects``."""

from datetime import datetime

from .objects import ObjectMeta, View

__all__ = ["EventSeries", "EventSource", "EventView", "ObjectReference", "last_seen"]


class ObjectReference(View, frozen=True):
    """The object of an event (core/v1, ObjectReference)."""

    kind: str | None = None
    name: str | None = None
    uid: str | None = None


class EventSource(View, frozen=True):
    """The component that wrote an event (core/v1, EventSource)."""

    component: str | None = None


class EventSeries(View, frozen=True):
    """An event that was repeated (core/v1, EventSeries)."""

    count: int | None = None
    last_observed_time: str | None = None


class EventView(View, frozen=True):
    """An event (core/v1, Event); ``type`` is ``Normal`` or ``Warning``."""

    metadata: ObjectMeta = ObjectMeta()
    involved_object: ObjectReference | None = None
    type: str | None = None
    reason: str | None = None
    message: str | None = None
    count: int | None = None
    last_timestamp: str | None = None
    event_time: str | None = None
    series: EventSeries | None = None
    source: EventSource | None = None
    reporting_component: str | None = None

    @property
    def component(self) -> str:
        """The component that wrote it, such as ``kubelet``; the two APIs of events have a field each."""
        return (self.source.component if self.source else None) or self.reporting_component or ""

    @property
    def time(self) -> str | None:
        """When its writer says that it last happened (RFC 3339): the text to show."""
        return next(filter(None, self.times), None)

    @property
    def times(self) -> tuple[str | None, ...]:
        """All its times (RFC 3339); the two APIs of events have fields of their own."""
        repeated = self.series.last_observed_time if self.series else None
        return (repeated, self.last_timestamp, self.event_time, self.metadata.creation_timestamp)


def last_seen(event: EventView) -> float:
    """When an event last happened, in epoch seconds of the cluster; 0 where it does not say.

    The latest of its times counts: the API server sets the creation time, and the clock of the
    event's writer may be slow.
    """
    return max((datetime.fromisoformat(time).timestamp() for time in event.times if time), default=0.0)

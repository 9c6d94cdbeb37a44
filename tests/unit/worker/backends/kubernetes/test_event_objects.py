"""Views of events: who wrote one, and when it last happened, in the fields of both APIs."""

import msgspec
import pytest

from oz_agent_worker.worker.backends.kubernetes.event_objects import EventView, last_seen


@pytest.mark.parametrize(
    ("text", "component"),
    [
        (b'{"source":{"component":"kubelet","host":"n"},"reportingComponent":""}', "kubelet"),
        (b'{"source":{},"reportingComponent":"default-scheduler"}', "default-scheduler"),
        (b'{"reportingComponent":"karpenter"}', "karpenter"),
        (b"{}", ""),
    ],
    ids=["core/v1", "events.k8s.io", "no source", "nobody"],
)
def test_both_apis_of_events_say_who_wrote_one(text: bytes, component: str) -> None:
    assert msgspec.json.decode(text, type=EventView).component == component


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (
            '{"series":{"lastObservedTime":"1970-01-01T00:00:04Z"},"lastTimestamp":"1970-01-01T00:00:03Z"}',
            4.0,
        ),
        ('{"lastTimestamp":"1970-01-01T00:00:03Z","eventTime":"1970-01-01T00:00:02Z"}', 3.0),
        ('{"series":{},"eventTime":"1970-01-01T00:00:02.5Z"}', 2.5),
        ('{"metadata":{"creationTimestamp":"1970-01-01T00:00:01Z"}}', 1.0),
        (
            '{"lastTimestamp":"1970-01-01T00:00:03Z","metadata":{"creationTimestamp":"1970-01-01T00:00:05Z"}}',
            5.0,
        ),
        ('{"series":{"lastObservedTime":"1970-01-01T00:00:02Z"},"eventTime":"1970-01-01T00:00:03Z"}', 3.0),
        ("{}", 0.0),
    ],
    ids=["repeated", "core/v1", "events.k8s.io", "created", "slow clock", "series behind", "no time"],
)
def test_an_event_is_as_late_as_its_last_repetition(text: str, seconds: float) -> None:
    assert last_seen(msgspec.json.decode(text, type=EventView)) == seconds

import pytest

from oz_agent_worker.worker.backends.kubernetes.api.errors import (
    ApiError,
    Status,
    UnreachableError,
    status_error,
)
from oz_agent_worker.worker.backends.kubernetes.api.refusals import (
    GracePeriod,
    is_about_the_worker,
    is_missing_permission,
)

NO_ROLE = 'jobs.batch is forbidden: User "bot" cannot list resource "jobs" in API group "batch"'
QUOTA = 'pods "task" is forbidden: exceeded quota: small'


def refusal(code: int, message: str) -> ApiError:
    return status_error(code, Status(code=code, message=message), verb="list", path="/p")


@pytest.mark.parametrize(
    ("error", "permission", "worker"),
    [
        (refusal(403, NO_ROLE), True, True),
        (refusal(403, QUOTA), False, False),
        (refusal(401, "Unauthorized"), False, True),
        (refusal(422, NO_ROLE), False, False),
        (UnreachableError("https://k8s", "refused"), False, False),
    ],
)
def test_what_a_refusal_is_about(error: ApiError, permission: bool, worker: bool) -> None:
    assert is_missing_permission(error) is permission
    assert is_about_the_worker(error) is worker


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_a_missing_permission_is_believed_when_it_has_lasted() -> None:
    clock = Clock()
    doubt = GracePeriod(5.0, clock)
    clock.seconds += 60
    assert doubt.about(refusal(403, NO_ROLE))
    clock.seconds += 4.9
    assert doubt.about(refusal(403, NO_ROLE))
    clock.seconds += 0.1
    assert not doubt.about(refusal(403, NO_ROLE))
    clock.seconds += 3600
    assert not doubt.about(refusal(403, NO_ROLE))


def test_what_was_allowed_in_between_starts_the_time_again() -> None:
    clock = Clock()
    doubt = GracePeriod(5.0, clock)
    assert doubt.about(refusal(403, NO_ROLE))
    clock.seconds += 5
    doubt.allayed()
    assert doubt.about(refusal(403, NO_ROLE))


def test_anything_else_is_believed_and_starts_nothing() -> None:
    clock = Clock()
    doubt = GracePeriod(5.0, clock)
    assert not doubt.about(refusal(403, QUOTA))
    clock.seconds += 5
    assert doubt.about(refusal(403, NO_ROLE))


def test_without_patience_everything_is_believed_at_once() -> None:
    assert not GracePeriod(0.0).about(refusal(403, NO_ROLE))

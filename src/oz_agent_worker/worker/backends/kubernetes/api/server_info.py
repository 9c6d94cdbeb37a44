"""Which API server answers, and what its clock says."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from oz_agent_worker.worker.clock_skew import clock_skew

from . import rest
from .client import KubernetesClient
from .errors import ForbiddenError, NotFoundError
from .rest import Request
from .retry import RetryPolicy

__all__ = ["OLDEST", "ServerInfo", "parse_version", "read_server_info"]

#: The oldest Kubernetes whose Jobs do all that the worker builds on: native sidecars (1.29).
OLDEST: Final = (1, 29)

_VERSION: Final = Request("get", "version", "GET", "/version")
_NUMBERS: Final = re.compile(r"v?(\d+)\.(\d+)")


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    """The part of version.Info that is read."""

    git_version: str = ""


_DECODER: Final = msgspec.json.Decoder(_Version)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server says of itself; both are ``None`` where it says nothing.

    ``skew`` is how many seconds the server's clock is ahead of this machine's.
    """

    version: str | None
    skew: float | None


async def read_server_info(client: KubernetesClient, policy: RetryPolicy | None = None) -> ServerInfo:
    """Ask for the version: the first request, which shows that the server can be reached.

    Raises:
        ApiError: it cannot, or does not accept the credentials.
    """
    began = datetime.now(UTC)
    try:
        answer = await client.exchange(_VERSION, policy)
    except (ForbiddenError, NotFoundError):
        # Not for everybody on every cluster; but it is the server that says so.
        return ServerInfo(None, None)
    skew = clock_skew(answer.date, began, datetime.now(UTC))
    return ServerInfo(rest.decode(_VERSION, answer.body, _DECODER).git_version or None, skew)


def parse_version(text: str | None) -> tuple[int, int] | None:
    """Read major and minor of ``v1.35.2-gke.100``; ``None`` where there are none."""
    found = _NUMBERS.match(text or "")
    return (int(found[1]), int(found[2])) if found else None

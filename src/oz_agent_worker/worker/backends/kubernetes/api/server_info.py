"""The API server's version, and how far its clock is from this machine's."""

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

#: The oldest supported Kubernetes: native sidecars are enabled by default since 1.29 (KEP-753).
OLDEST: Final = (1, 29)

_VERSION: Final = Request("get", "version", "GET", "/version")
_NUMBERS: Final = re.compile(r"v?(\d+)\.(\d+)")


class _Version(msgspec.Struct, frozen=True, rename="camel"):
    """The part of version.Info that is read."""

    git_version: str = ""


_DECODER: Final = msgspec.json.Decoder(_Version)


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What the server says about itself; ``None`` where it does not.

    ``skew`` is how many seconds the server's clock is ahead of this machine's.
    """

    version: str | None
    skew: float | None


async def read_server_info(client: KubernetesClient, policy: RetryPolicy | None = None) -> ServerInfo:
    """Read the version. As the first request it shows whether the server can be reached.

    Raises:
        ApiError: it cannot be reached, or does not accept the credentials.
    """
    began = datetime.now(UTC)
    try:
        answer = await client.exchange(_VERSION, policy)
    except (ForbiddenError, NotFoundError):
        # Some clusters do not serve the version to everybody; but the server has answered.
        return ServerInfo(None, None)
    skew = clock_skew(answer.date, began, datetime.now(UTC))
    return ServerInfo(rest.decode(_VERSION, answer.body, _DECODER).git_version or None, skew)


def parse_version(text: str | None) -> tuple[int, int] | None:
    """Return major and minor of a version such as ``v1.35.2-gke.100``; ``None`` where it has none."""
    found = _NUMBERS.match(text or "")
    return (int(found[1]), int(found[2])) if found else None

"""A reader of server-sent events, as strict as a browser's."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.timeouts import HANG_TIMEOUT


@dataclass(frozen=True)
class Event:
    kind: str
    data: dict[str, Any]
    id: str | None


async def events(response: aiohttp.ClientResponse, timeout: float = HANG_TIMEOUT) -> AsyncIterator[Event]:
    """Yield events until the stream ends; ``timeout`` is the longest silence in seconds."""
    fields: dict[str, str] = {}
    while True:
        async with asyncio.timeout(timeout):
            line = (await response.content.readline()).decode()
        if not line:
            return
        line = line.rstrip("\n")
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            if "event" in fields:
                yield Event(fields["event"], json.loads(fields["data"]), fields.get("id"))
            fields = {}

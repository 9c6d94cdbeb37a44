"""The end of a web server of a test: at once, whatever its clients do."""

import asyncio
from typing import Final

from aiohttp import web

__all__ = ["end_server"]

#: Turns of the event loop until whoever the listener has let in is with the server.
_ARRIVAL: Final = 3


async def end_server(runner: web.BaseRunner) -> None:
    """Stop listening, break every connection, and wait until each is closed.

    A connection that is closed in good order waits until its client has read everything, and with
    TLS until the client has closed it. An event loop that ends before leaves its socket open.
    """
    for site in list(runner.sites):
        await site.stop()
    for _ in range(_ARRIVAL):
        await asyncio.sleep(0)
    if runner.server is not None:
        for handler in runner.server.connections:
            if isinstance(handler.transport, asyncio.Transport):
                handler.transport.abort()
    await runner.cleanup()
    await asyncio.sleep(0)  # transports are closed in the loop's next turn

"""Runs store operations off the event loop: reads in parallel, writes in one line."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from .engine import WRITE, open_engine

__all__ = ["Database"]

P = ParamSpec("P")
R = TypeVar("R")

_READERS: Final = 4
_LARGEST_BATCH: Final = 128


@dataclass(frozen=True, slots=True)
class _Write:
    call: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: "asyncio.Future[Any]"


@dataclass(frozen=True, slots=True)
class _Failure:
    error: Exception


class Database:
    """An engine, a few reader threads and one writer thread.

    Writes wait in a queue, and whatever waits is committed together: one sync to disk
    serves all of them (group commit). They are applied in the order of their calls. An
    operation may be applied twice, after a rollback, so it must do nothing but SQL.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="oz-db-reader")
        self._writer = threading.Thread(target=self._write_all, name="oz-db-writer", daemon=True)
        self._writer.start()

    @classmethod
    async def open(cls, database_url: str) -> "Database":
        """Open and migrate the database. Raises ConfigError or PreflightError."""
        return cls(await asyncio.to_thread(open_engine, database_url))

    async def close(self) -> None:
        """ReportResult the writes that wait, then close every connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()

    async def read(self, fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``fn`` in a transaction that only reads, and sees one moment."""

        def call() -> R:
            with self._engine.connect() as connection, connection.begin():
                return fn(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    def write(
        self, fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Future[R]":
        """Queue ``fn``; the future has its result once the transaction is on disk."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._queue.put(_Write(lambda connection: fn(connection, *args, **kwargs), loop, future))
        return future

    def _write_all(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._next_batch()
            for write, result in zip(batch, self._commit(batch), strict=True):
                # A loop that has been closed has nobody left to tell.
                with contextlib.suppress(RuntimeError):
                    write.loop.call_soon_threadsafe(partial(_settle, write.future, result))

    def _next_batch(self) -> tuple[list[_Write], bool]:
        batch: list[_Write] = []
        with contextlib.suppress(Empty):
            while len(batch) < _LARGEST_BATCH:
                write = self._queue.get(block=not batch)
                if write is None:
                    return batch, False
                batch.append(write)
        return batch, True

    def _commit(self, batch: list[_Write]) -> list[Any]:
        """Apply a batch in one transaction; where one write fails, each in its own."""
        if not batch:
            return []
        try:
            with self._engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
                return [write.call(connection) for write in batch]
        except Exception as error:  # noqa: BLE001 - each belongs to its caller
            if len(batch) == 1:
                return [_Failure(error)]
        return [self._commit([write])[0] for write in batch]


def _settle(future: "asyncio.Future[Any]", result: Any) -> None:
    if future.done():  # its caller was cancelled
        return
    if isinstance(result, _Failure):
        future.set_exception(result.error)
    else:
        future.set_result(result)

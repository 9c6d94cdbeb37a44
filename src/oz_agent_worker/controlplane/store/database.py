"""Runs store operations off the event loop: reads in parallel, writes one after the other."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Concatenate, Final, NamedTuple, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine

from .engine import WRITE, open_engine

__all__ = ["Database"]

P = ParamSpec("P")
R = TypeVar("R")

_READERS: Final = 4
_LARGEST_BATCH: Final = 128


class _Write(NamedTuple):
    call: Callable[[Connection], Any]
    future: "Future[Any]"


class Database:
    """An engine, a few reader threads and one writer thread.

    Writes wait in a queue, and all that wait are committed together: one sync to disk serves
    all of them (group commit). They are applied in the order of their calls. An operation may
    be applied twice, after a rollback, so it must only execute SQL.
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
        """Finish the queued writes, then close every connection."""
        self._queue.put(None)
        await asyncio.to_thread(self._writer.join)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._engine.dispose()

    async def read(self, fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run ``fn`` in a read-only transaction.

        On SQLite it sees one snapshot; on PostgreSQL each statement sees what is committed then.
        """

        def call() -> R:
            with self._engine.connect() as connection, connection.begin():
                return fn(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, call)

    def write(
        self, fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Future[R]":
        """Queue ``fn``; the future has its result once the transaction is on disk.

        Cancelling the future does not cancel the write.
        """
        future: Future[R] = Future()
        future.set_running_or_notify_cancel()
        self._queue.put(_Write(lambda connection: fn(connection, *args, **kwargs), future))
        return asyncio.wrap_future(future)

    def _write_all(self) -> None:
        open_ = True
        while open_:
            batch: list[_Write] = []
            with suppress(Empty):
                while open_ and len(batch) < _LARGEST_BATCH:
                    write = self._queue.get(block=not batch)
                    open_ = write is not None
                    batch += [write] if write else []
            if batch:
                self._commit(batch)

    def _commit(self, batch: list[_Write]) -> None:
        """Apply a batch in one transaction; if one write fails, each in its own."""
        try:
            with self._engine.connect().execution_options(**{WRITE: True}) as connection, connection.begin():
                results = [write.call(connection) for write in batch]
        except Exception as error:  # noqa: BLE001 - the error belongs to the caller of one write
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                for write in batch:
                    self._commit([write])
        else:
            for write, result in zip(batch, results, strict=True):
                write.future.set_result(result)

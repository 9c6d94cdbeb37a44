"""A database before one of whose writes something else happens: interleavings, played."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Concatenate, ParamSpec, Self, TypeVar

from sqlalchemy import Connection, Engine

from oz_agent_worker.controlplane.store.database import Database
from oz_agent_worker.controlplane.store.engine import open_engine

__all__ = ["StagedDatabase"]

P = ParamSpec("P")
R = TypeVar("R")

Scene = Callable[[], Awaitable[object]]


class StagedDatabase(Database):
    """What is played before a write is over, and stored, when that write is queued."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._scene: Scene | None = None
        self._writes_before = 0

    @classmethod
    async def open(cls, database_url: str) -> Self:
        return cls(await asyncio.to_thread(open_engine, database_url))

    def before_write(self, number: int, scene: Scene) -> None:
        """Play ``scene`` before the write with this number, from 1, counted from here on."""
        self._scene, self._writes_before = scene, number - 1

    def write(
        self, fn: Callable[Concatenate[Connection, P], R], *args: P.args, **kwargs: P.kwargs
    ) -> "asyncio.Future[R]":
        scene = self._scene
        if scene is None:
            return super().write(fn, *args, **kwargs)
        if self._writes_before > 0:
            self._writes_before -= 1
            return super().write(fn, *args, **kwargs)
        self._scene = None

        async def play() -> R:
            await scene()
            return await super(StagedDatabase, self).write(fn, *args, **kwargs)

        return asyncio.ensure_future(play())

"""The tasks of the run: what they are, and when they come."""

import asyncio
import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import aiohttp

from tests.chaos.plan import End, TaskPlan

__all__ = ["Submitter"]

#: Of a hundred tasks, how many are of each kind. Where one is cancelled, the run asks for it.
_MIX: Final[Mapping[str, int]] = MappingProxyType(
    {
        "success": 72,
        "exit": 9,
        "oom": 4,
        "evicted": 3,
        "image-pull": 4,
        "unschedulable": 3,
        "never": 5,
    }
)
_EXIT_CODES: Final = {End.EXIT: 1, End.OOM: 137}
_CANCEL_AFTER: Final = 12.0


class Submitter:
    """Submits tasks at random times, from one seed, so that a picture can be made again."""

    def __init__(self, url: str, key: str, seed: int) -> None:
        self._runs = f"{url}/api/v1/agent/runs"
        self._headers = {"Authorization": f"Bearer {key}"}
        self._random = random.Random(seed)
        self._number = 0

    async def run(self, hosts: Mapping[str, float]) -> None:
        """Submit for ever; ``hosts`` are workers, and how many tasks a second each is sent on average.

        Only a worker with the Kubernetes backend, which comes first, is sent those that end in its way.
        """
        async with aiohttp.ClientSession(headers=self._headers) as http, asyncio.TaskGroup() as group:
            for place, (host, rate) in enumerate(hosts.items()):
                group.create_task(self._submit(http, host, rate, everything=place == 0))

    async def _submit(self, http: aiohttp.ClientSession, host: str, rate: float, everything: bool) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(self._random.expovariate(rate))
                group.create_task(self._one(http, host, self._plan(everything)))

    def _plan(self, everything: bool) -> TaskPlan:
        kinds = list(_MIX) if everything else ["success", "exit", "never"]
        end = End(self._random.choices(kinds, [_MIX[kind] for kind in kinds])[0])
        self._number += 1
        return TaskPlan(
            number=self._number,
            end=end,
            seconds=self._random.lognormvariate(2.0, 0.7),
            exit_code=_EXIT_CODES.get(end, 0),
            cancel_after=_CANCEL_AFTER if end is End.NEVER else None,
        )

    async def _one(self, http: aiohttp.ClientSession, host: str, plan: TaskPlan) -> None:
        config = {"profile_id": plan.orders, "worker_host": host}
        body = {"prompt": plan.title, "title": plan.title, "config": config}
        answer = await self._ask(http, self._runs, body)
        if plan.cancel_after is not None and answer is not None:
            await asyncio.sleep(plan.cancel_after)
            await self._ask(http, f"{self._runs}/{answer['run_id']}/cancel", {})

    @staticmethod
    async def _ask(http: aiohttp.ClientSession, url: str, body: object) -> dict[str, str] | None:
        """Return the answer; none while the control plane is away."""
        try:
            async with http.post(url, json=body) as answer:
                found: dict[str, str] = await answer.json()
                return found if answer.status == 200 else None
        except aiohttp.ClientError:
            return None

"""The harness's client of the control plane: patient, and sure of what it has submitted."""

import asyncio
import time
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from tests.timeouts import HANG_TIMEOUT

from .comparison import RunView
from .plan import TaskPlan

__all__ = ["Ended", "PlaneClient"]

_OPEN: Final = ("QUEUED", "PENDING", "CLAIMED", "INPROGRESS")
_PAUSE: Final = 0.1
_TIMEOUT: Final = aiohttp.ClientTimeout(total=HANG_TIMEOUT)
_PAGE: Final = "500"


class Ended(Exception):  # noqa: N818 - an answer, not an error
    """The run that was to be cancelled has ended."""


class PlaneClient:
    """An async context manager; every method asks again until it has an answer."""

    def __init__(self, url: str, key: str) -> None:
        self._url = f"{url}/api/v1/agent/runs"
        self._key = key

    async def __aenter__(self) -> Self:
        # A connection that a killed server leaves in the pool would fail the next request.
        connector = aiohttp.TCPConnector(force_close=True)
        headers = {"Authorization": f"Bearer {self._key}"}
        self._http = aiohttp.ClientSession(headers=headers, timeout=_TIMEOUT, connector=connector)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def submit(self, plan: TaskPlan) -> str:
        """Submit a task once, and return its run's ID.

        A request without an answer may have been carried out. The control plane that it was
        sent to is dead then, for a slow one is waited for; its successor's list says whether the
        run is there.
        """
        body: dict[str, Any] = {"prompt": plan.title, "title": plan.title}
        body["config"] = {"profile_id": plan.orders}
        if plan.safe_to_retry:
            body["safe_to_retry"] = True
        while True:
            try:
                status, answer = await self._exchange("POST", self._url, json=body)
            except (aiohttp.ClientError, TimeoutError):
                found = await self._list({"title": plan.title})
                if found:
                    return str(found[0]["run_id"])
                continue
            if status == 200:
                return str(answer["run_id"])
            if status < 500:
                raise AssertionError(f"a submission was refused with {status}: {answer}")
            await asyncio.sleep(_PAUSE)

    async def cancel(self, run_id: str) -> None:
        """Cancel a run. Raises Ended where that is too late."""
        while True:
            try:
                status, answer = await self._exchange("POST", f"{self._url}/{run_id}/cancel")
            except (aiohttp.ClientError, TimeoutError):
                await asyncio.sleep(_PAUSE)
                continue
            if status == 200:
                return
            if status == 400:
                raise Ended
            if status not in (409, 500, 503):
                raise AssertionError(f"cancelling run {run_id} was answered {status}: {answer}")
            await asyncio.sleep(_PAUSE)

    async def open_runs(self) -> int:
        """How many runs have not ended."""
        return len(await self._list([("state", state) for state in _OPEN]))

    async def runs(self) -> list[RunView]:
        """Every run."""
        return [_view(item) for item in await self._list({})]

    async def until_up(self, timeout: float = HANG_TIMEOUT) -> None:
        """Wait until it answers. Raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                await self._exchange("GET", self._url, params={"limit": "1"})
            except (aiohttp.ClientError, TimeoutError):
                if time.monotonic() > deadline:
                    raise TimeoutError("the control plane does not answer") from None
                await asyncio.sleep(_PAUSE)
            else:
                return

    async def _list(self, filters: Any) -> list[dict[str, Any]]:
        """Read a list whole, page after page; sorted by what never changes, so that nothing slips through."""
        pairs = [*(filters.items() if isinstance(filters, dict) else filters)]
        pairs += [("limit", _PAGE), ("sort_by", "created_at"), ("sort_order", "asc")]
        found: list[dict[str, Any]] = []
        cursor: list[tuple[str, str]] = []
        while True:
            try:
                status, page = await self._exchange("GET", self._url, params=[*pairs, *cursor])
            except (aiohttp.ClientError, TimeoutError):
                status, page = 503, None
            if status >= 500:
                await asyncio.sleep(_PAUSE)
                continue
            if status != 200:
                raise AssertionError(f"a list was refused with {status}: {page}")
            found += page["runs"]
            if not page["page_info"]["has_next_page"]:
                return found
            cursor = [("cursor", page["page_info"]["next_cursor"])]

    async def _exchange(self, method: str, url: str, **options: Any) -> tuple[int, Any]:
        async with self._http.request(method, url, **options) as answer:
            return answer.status, await answer.json()


def _view(item: dict[str, Any]) -> RunView:
    message = item.get("status_message") or {}
    return RunView(
        run_id=item["run_id"],
        title=item["title"],
        state=item["state"],
        error_code=message.get("error_code"),
        exit_code=item.get("exit_code"),
        message=message.get("message", ""),
    )

import json
from collections.abc import Iterator
from itertools import islice
from urllib.request import Request

import pytest

from oz_agent_worker.agent.errors import FetchError
from oz_agent_worker.agent.fetch import (
    Reply,
    TransientError,
    decode_reply,
    fetch_run,
    retry_after,
    retry_delays,
    run_request,
)
from oz_agent_worker.agent.run_item import RunItem

OK = Reply(200, b'{"run_id": "r", "prompt": "p"}')
BUSY = Reply(503, b"")


class Server:
    """Replies in turn, and a clock that only a sleep moves."""

    def __init__(self, *replies: Reply | TransientError) -> None:
        self.replies: Iterator[Reply | TransientError] = iter(replies)
        self.now = 100.0
        self.sleeps: list[float] = []
        self.logged: list[str] = []

    def send(self, request: Request, timeout: float) -> Reply:
        assert 1.0 <= timeout <= 10.0
        reply = next(self.replies)
        if isinstance(reply, TransientError):
            raise reply
        return reply

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds

    def fetch(self, budget: float = 60.0) -> RunItem:
        return fetch_run(
            run_request("http://host:1", "r", "key"),
            "r",
            budget,
            self.logged.append,
            sender=self.send,
            clock=lambda: self.now,
            wall_clock=lambda: 0.0,
            sleep=self.sleep,
            uniform=lambda low, high: high,
        )


def test_the_request() -> None:
    request = run_request("https://host/base/", "a/b c", "key")
    assert request.full_url == "https://host/base/api/v1/agent/runs/a%2Fb%20c"
    assert request.get_header("Authorization") == "Bearer key"
    assert "Authorization" not in request.headers, "a redirect must not carry it"


@pytest.mark.parametrize(
    "url", ["", "host", "ftp://host", "file:///etc", "http://", "http://u:hush@host", "http://h?x"]
)
def test_invalid_urls(url: str) -> None:
    with pytest.raises(FetchError, match="server root URL") as caught:
        run_request(url, "r", "key")
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "hu shh", "hushh\nX-Evil: 1", "hüshh"])
def test_invalid_tokens_are_not_quoted(token: str) -> None:
    with pytest.raises(FetchError, match="WARP_API_KEY") as caught:
        run_request("http://host", "r", token)
    assert "shh" not in str(caught.value)


def test_a_successful_reply_needs_no_retry() -> None:
    server = Server(OK)
    assert server.fetch() == RunItem(run_id="r", prompt="p")
    assert server.sleeps == []
    assert server.logged == []


def test_delays_grow_between_attempts() -> None:
    server = Server(BUSY, TransientError("host is not reachable: refused"), Reply(429, b""), OK)
    assert server.fetch().prompt == "p"
    assert server.sleeps == [0.25, 0.5, 1.0]
    assert server.logged[0] == "the control plane is not ready (HTTP 503); trying again in 0.2 s"
    assert "refused" in server.logged[1]


def test_retry_after_is_honoured() -> None:
    server = Server(Reply(429, b"", "7"), OK)
    server.fetch()
    assert server.sleeps == [7.0]


def test_retries_end_with_the_budget() -> None:
    server = Server(*[BUSY] * 100)
    with pytest.raises(FetchError, match=r"HTTP 503.*attempts in \d+ s"):
        server.fetch(budget=20)
    assert sum(server.sleeps) <= 20


def test_a_retry_after_beyond_the_budget_fails_at_once() -> None:
    server = Server(Reply(503, b"", "3600"))
    with pytest.raises(FetchError, match="1 attempt in 0 s, and it asks to wait 3600 s"):
        server.fetch()
    assert server.sleeps == []


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "refused this run's token"),
        (403, "refused this run's token"),
        (404, "knows no run r"),
        (302, "redirects"),
        (400, "refused the request"),
        (201, "refused the request"),
    ],
)
def test_statuses_that_are_not_retried(status: int, text: str) -> None:
    server = Server(Reply(status, json.dumps({"title": "T", "detail": "No\nsuch\x1b[31m"}).encode()))
    with pytest.raises(FetchError) as caught:
        server.fetch()
    assert text in str(caught.value)
    assert f"HTTP {status}: No such [31m" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"title": 5}', b"[" * 100_000])
def test_an_error_without_a_valid_body_shows_its_status(body: bytes) -> None:
    with pytest.raises(FetchError, match=r"\(HTTP 403\)$"):
        decode_reply(Reply(403, body), "r", 0.0)


def test_retry_after_forms() -> None:
    assert retry_after(" 5 ", 0.0) == 5.0
    assert retry_after("Thu, 01 Jan 1970 00:00:30 GMT", 10.0) == 20.0
    assert retry_after("Thu, 01 Jan 1970 00:00:30 GMT", 50.0) == 0.0
    assert retry_after("soon", 0.0) is None
    assert retry_after("-5", 0.0) is None
    assert retry_after("", 0.0) is None


def test_delays_double_up_to_a_limit_and_keep_half_of_it() -> None:
    assert list(islice(retry_delays(lambda low, high: high), 7)) == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert list(islice(retry_delays(lambda low, high: low), 2)) == [0.125, 0.25]

"""Every route of the application is asked by a test over HTTP."""

import re
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from starlette.routing import Route

from oz_agent_worker.controlplane.api.routes import build_app

TESTS = Path(__file__).parents[4] / "tests" / "integration" / "controlplane"
PATHS = sorted(
    {route.path for route in build_app(MagicMock(), MagicMock()).routes if isinstance(route, Route)}
)


@pytest.mark.parametrize("path", PATHS)
def test_every_route_is_asked_by_a_test(path: str) -> None:
    # The tests name a route by what follows the API's root; any text stands for a parameter.
    pattern = re.sub(r"\\{\w+\\}", r"[^\\s\"]+", re.escape(path.removeprefix("/api/v1/").lstrip("/")))
    texts = [file.read_text() for file in TESTS.glob("*.py")]
    assert any(re.search(rf"\b{pattern}[\"?]", text) for text in texts), (
        f"no test in {TESTS.name} asks {path}"
    )

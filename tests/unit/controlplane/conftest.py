from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .plane import Plane


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    plane = await Plane.open(tmp_path / "control-plane.db")
    yield plane
    await plane.close()

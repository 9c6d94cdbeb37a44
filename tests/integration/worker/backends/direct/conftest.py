from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .host import Host


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    """A host of the test's own."""
    host = Host(tmp_path)
    yield host
    await host.close()

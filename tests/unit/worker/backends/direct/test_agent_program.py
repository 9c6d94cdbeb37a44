"""Which agent a task is run with."""

import os
import re
import sys
from pathlib import Path

import pytest

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.protocol.frames import Capability
from oz_agent_worker.worker.backends.direct.agent_program import AgentSources, bundled_agent
from oz_agent_worker.worker.peer import ControlPlanePeer


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with an agent of each kind."""
    for name in ("bin/oz", "configured", "default", "oz-agent"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch(mode=0o755)
    return tmp_path


def sources(folder: Path, *kinds: str, url: str = "https://oz.test") -> AgentSources:
    """Agents of these kinds; ``bundled`` is there as in every installation."""
    return AgentSources(
        configured=str(folder / "configured") if "configured" in kinds else None,
        environ={"PATH": str(folder / "bin") if "found" in kinds else "/nowhere"},
        default=str(folder / "default") if "default" in kinds else None,
        bundled=str(folder / "oz-agent"),
        peer=ControlPlanePeer(url),
    )


@pytest.mark.parametrize(
    ("kinds", "name", "why"),
    [
        (("configured", "default", "found"), "configured", "backend.direct.oz_path"),
        (("default", "found"), "default", "the bundled agent"),
        (("found",), "bin/oz", "`oz` on PATH"),
        ((), "oz-agent", "the bundled agent, because `oz` is not on PATH"),
    ],
)
def test_the_first_that_there_is_is_used(programs: Path, kinds: tuple[str, ...], name: str, why: str) -> None:
    agent = sources(programs, *kinds).choose()
    assert (agent.path, agent.why) == (str(programs / name), why)
    assert str(agent) == f"{programs / name} ({why})"


@pytest.mark.parametrize("url", ["https://app.warp.dev", "wss://oz.warp.dev/api/v1/selfhosted/worker/ws"])
def test_the_public_service_needs_an_oz(programs: Path, url: str) -> None:
    with pytest.raises(PreflightError) as caught:
        sources(programs, url=url).choose()
    text = str(caught.value)
    assert text.startswith("no agent: `oz` is not on PATH and backend.direct.oz_path is not set. ")
    assert f"{url} is the public service. Install the Oz CLI, or set backend.direct.oz_path" in text
    assert sources(programs, "found", url=url).choose().path == str(programs / "bin/oz")


def test_whether_the_peer_knows_the_bundled_agent_is_checked_when_it_answers(programs: Path) -> None:
    bundled = sources(programs)
    bundled.choose()
    assert bundled.peer is not None
    bundled.peer.check(frozenset({Capability.ACK}))
    with pytest.raises(PreflightError, match="the control plane that answered is another one"):
        bundled.peer.check(frozenset())
    of_path = sources(programs, "found")
    of_path.choose()
    assert of_path.peer is not None
    of_path.peer.check(frozenset())


@pytest.mark.parametrize("bundled", [None, "{}/missing"])
def test_an_installation_without_its_agent_says_so(programs: Path, bundled: str | None) -> None:
    path = bundled and bundled.format(programs)
    agents = AgentSources(configured=None, environ={}, bundled=path, peer=ControlPlanePeer())
    with pytest.raises(PreflightError, match="no agent: `oz` is not on PATH" if path is None else "missing"):
        agents.choose()


@pytest.mark.parametrize("wanted", ["{}/missing", "{}", "missing"])
def test_an_oz_path_that_is_no_program_is_an_error_with_its_path(programs: Path, wanted: str) -> None:
    path = wanted.format(programs)
    agents = AgentSources(
        configured=path,
        environ={"PATH": str(programs / "bin")},
        bundled=str(programs / "oz-agent"),
        peer=ControlPlanePeer(),
    )
    with pytest.raises(PreflightError, match=rf"^backend\.direct\.oz_path: {re.escape(path)} does not exist"):
        agents.choose()


def test_this_installation_has_its_agent() -> None:
    found = bundled_agent()
    assert found == str(Path(sys.executable).with_name("oz-agent"))
    assert os.access(found, os.X_OK)

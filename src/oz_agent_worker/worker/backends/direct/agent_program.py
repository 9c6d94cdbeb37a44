"""Which program carries out the tasks of this host.

``oz_path``; else `oz` on PATH; else the bundled ``oz-agent``, which this project's control plane alone
knows. ``dev`` runs the bundled one although there is an `oz`, because the control plane is its own.
"""

import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from oz_agent_worker.errors import PreflightError
from oz_agent_worker.worker.peer import ControlPlanePeer

__all__ = ["AgentProgram", "AgentSources", "bundled_agent"]

_FIX: Final = "Install the Oz CLI, or set backend.direct.oz_path to the agent's program"


@dataclass(frozen=True, slots=True)
class AgentProgram:
    """The agent's program: its absolute path, and why it is this one."""

    path: str
    why: str

    def __str__(self) -> str:
        return f"{self.path} ({self.why})"


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSources:
    """Where the agent's program may come from.

    ``default`` is used in place of `oz` on PATH, ``bundled`` where there is none, with a control plane
    of this project as ``peer``. ``environ`` has the PATH.
    """

    configured: str | None
    environ: Mapping[str, str]
    default: str | None = None
    bundled: str | None = None
    peer: ControlPlanePeer | None = None

    def choose(self) -> AgentProgram:
        """Choose the program. The peer is asked for what the bundled agent needs.

        Raises:
            PreflightError: there is no such program, it cannot be executed, or the control plane is
                the public service, which the bundled agent does not serve.
        """
        if self.configured:
            return self._program(self.configured, "backend.direct.oz_path")
        if self.default:
            return self._program(self.default, "the bundled agent")
        if (found := self._find("oz")) is not None:
            return AgentProgram(found, "`oz` on PATH")
        missing = "no agent: `oz` is not on PATH and backend.direct.oz_path is not set"
        if self.bundled is None or self.peer is None:
            raise PreflightError(f"{missing}. {_FIX}")
        limit = "The bundled oz-agent serves only this project's control plane"
        if self.peer.public_url is not None:
            raise PreflightError(
                f"{missing}. {limit}, and {self.peer.public_url} is the public service. {_FIX}; "
                "for a control plane of your own give --server-root-url and --web-socket-url"
            )
        self.peer.require_extensions(
            f"{missing}. {limit}, and the control plane that answered is another one: its handshake names "
            f"no capabilities (a proxy may have removed the header X-Oz-Capabilities). {_FIX}"
        )
        return self._program(self.bundled, "the bundled agent, because `oz` is not on PATH")

    def _program(self, wanted: str, why: str) -> AgentProgram:
        found = self._find(os.path.expanduser(wanted))  # noqa: PTH111 - may be a bare name
        if found is None:
            raise PreflightError(
                f"{why}: {wanted} does not exist or cannot be executed. "
                "Correct the path, or make the file executable with chmod +x"
            )
        return AgentProgram(found, why)

    def _find(self, name: str) -> str | None:
        found = shutil.which(name, path=self.environ.get("PATH", os.defpath))
        # Links are kept: one may be what chooses the program's version.
        return os.path.abspath(found) if found is not None else None  # noqa: PTH100


def bundled_agent() -> str | None:
    """The ``oz-agent`` of this installation."""
    beside = Path(sys.executable).with_name("oz-agent")
    return str(beside) if beside.exists() else shutil.which("oz-agent")

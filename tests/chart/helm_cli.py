"""Helm as a user runs it, apart from the user's own settings."""

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

__all__ = [
    "CASES",
    "CONTROL_PLANE",
    "NAMESPACE",
    "RELEASE",
    "ROOT",
    "WORKER",
    "Helm",
    "HelmError",
    "case_id",
    "values_arguments",
]

ROOT: Final = Path(__file__).parents[2]

WORKER: Final = ROOT / "charts/oz-agent-worker"
CONTROL_PLANE: Final = ROOT / "charts/oz-control-plane"

#: A values file each; together they take every branch of every template (test_branches).
CASES: Final = tuple(path for chart in (WORKER, CONTROL_PLANE) for path in sorted((chart / "ci").iterdir()))

RELEASE: Final = "rel"
NAMESPACE: Final = "agents"


def case_id(path: Path) -> str:
    """Name a case: chart and file."""
    return f"{path.parents[1].name.removeprefix('oz-')}-{path.name.removesuffix('-values.yaml')}"


class HelmError(Exception):
    """Helm ended with an error; the message is its output."""


@dataclass(frozen=True, slots=True)
class Helm:
    """A Helm whose own files are all in ``home``; ``kubeconfig`` names the cluster, if there is one."""

    program: Path
    home: Path
    kubeconfig: Path | None = None

    def run(self, *arguments: str | Path) -> str:
        """Run one command and return what it printed.

        Raises:
            HelmError: it failed.
        """
        own = {f"HELM_{name}_HOME": str(self.home / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}
        cluster = str(self.kubeconfig) if self.kubeconfig else os.devnull
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.home), "KUBECONFIG": cluster, **own}
        environment["GOGC"] = "off"  # one short run: collecting garbage is a quarter of it
        command = [str(self.program), *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise HelmError(done.stderr)
        return done.stdout

    def template(
        self,
        chart: Path,
        *files: Path,
        values: Mapping[str, Any] | None = None,
        release: str = RELEASE,
        namespace: str = NAMESPACE,
        options: tuple[str, ...] = (),
    ) -> list[dict[str, Any]]:
        """Render a chart and return its objects, hooks included; ``values`` win over ``files``.

        Raises:
            HelmError: the values are refused, or a template fails.
        """
        arguments = ["template", release, str(chart), "--namespace", namespace]
        arguments += [*values_arguments(*files), *options]
        # JSON, so that null and numbers arrive as they are.
        arguments += [f"--set-json={key}={json.dumps(value)}" for key, value in (values or {}).items()]
        return [found for found in yaml.load_all(_rendered(self, *arguments), yaml.CSafeLoader) if found]


@cache
def _rendered(helm: Helm, *arguments: str) -> str:
    """What rendering printed: many tests look at one and the same."""
    return helm.run(*arguments)


def values_arguments(*files: Path) -> list[str]:
    """Return the arguments that name values files."""
    return [f"--values={path}" for path in files]

"""Prints how much of each package the tests run, from a coverage data file.

``python -m scripts.coverage_report``: a line a package, with its statements, its branches
and the share of both that ran; the whole at the end. The data come from ``make coverage``.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

__all__ = ["Coverage", "by_package", "main", "table"]

PACKAGE: Final = "oz_agent_worker"


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many statements and branches there are, and how many of them ran."""

    statements: int = 0
    statements_run: int = 0
    branches: int = 0
    branches_run: int = 0

    @property
    def percent(self) -> float:
        """Statements and branches that ran, in percent of all; 100 where there are none."""
        total = self.statements + self.branches
        return 100 * (self.statements_run + self.branches_run) / total if total else 100.0

    def __add__(self, other: "Coverage") -> "Coverage":
        return Coverage(
            self.statements + other.statements,
            self.statements_run + other.statements_run,
            self.branches + other.branches,
            self.branches_run + other.branches_run,
        )


def by_package(report: dict[str, Any]) -> dict[str, Coverage]:
    """Add up the files of a JSON report (``coverage json``) for each package of the product."""
    packages: dict[str, Coverage] = defaultdict(Coverage)
    for file, data in report["files"].items():
        parts = PurePosixPath(file).parts
        package = ".".join(parts[parts.index(PACKAGE) + 1 : -1]) or PACKAGE
        summary = data["summary"]
        packages[package] += Coverage(
            summary["num_statements"],
            summary["covered_lines"],
            summary["num_branches"],
            summary["covered_branches"],
        )
    return dict(packages)


def table(packages: dict[str, Coverage]) -> str:
    """Format the packages as a table for a terminal, with a line for the whole."""
    rows = [*sorted(packages.items()), ("all", sum(packages.values(), Coverage()))]
    width = max(len(name) for name, _ in rows)
    lines = [f"{'package':<{width}}  statements  branches  covered"]
    lines += [f"{name:<{width}}  {c.statements:10}  {c.branches:8}  {c.percent:6.1f}%" for name, c in rows]
    return "\n".join(lines)


def main() -> int:
    """Print the table; returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "coverage.json"
        command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(report)]
        if code := subprocess.run(command, check=False).returncode:
            return code
        print(table(by_package(json.loads(report.read_text()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The packages that are held by mutation, and the tests that must notice."""

import tomllib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["PACKAGE", "ROOT", "mutated_packages", "paths_for"]

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = "oz_agent_worker"
_CONTRACT: Final = "Pure modules"


def mutated_packages() -> dict[str, list[Path]]:
    """Return the files of every pure module, by package: those that the import contract names."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    (contract,) = (c for c in contracts if c["name"].startswith(_CONTRACT))
    packages: Mapping[str, list[Path]] = defaultdict(list)
    for module in contract["source_modules"]:
        path = ROOT / "src" / Path(*module.split("."))
        if path.is_dir():
            packages[module] += sorted(p for p in path.glob("*.py") if p.name != "__init__.py")
        else:
            packages[module.rpartition(".")[0]].append(path.with_suffix(".py"))
    return dict(packages)


def paths_for(module: str) -> tuple[list[str], list[str]]:
    """Return the test files of a module's name, and the other test files of its package."""
    package, _, name = module.removeprefix(f"{PACKAGE}.").rpartition(".")
    folder = ROOT / "tests" / "unit" / Path(*package.split("."))
    own = sorted(folder.glob(f"test_{name}*.py"))
    others = sorted(set(folder.glob("test_*.py")) - set(own))
    return [str(path.relative_to(ROOT)) for path in own], [str(path.relative_to(ROOT)) for path in others]

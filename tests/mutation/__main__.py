"""``python -m tests.mutation``: mutants of the pure packages against their unit tests.

The last line is one JSON object. Exit code 1 where a mutant survives.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import Mutant, choose, mutants_of
from tests.mutation.packages import PACKAGE, ROOT, mutated_packages, paths_for
from tests.mutation.plugin import FILE_VARIABLE, MODULE_VARIABLE

#: Seconds after which a mutant counts as noticed: it never ends. The tests take a tenth of it.
_HANGS: Final = 300.0


def survives(mutant: Mutant) -> bool:
    """Run the tests of a mutant's package. True where all of them pass."""
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as file:
        file.write(mutant.source)
        file.flush()
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "--tb=no"]
        command += ["-p", "tests.mutation.plugin", "-p", "no:cacheprovider", "-p", "no:xdist"]
        command += ["--hypothesis-seed=0", *paths_for(mutant.module)]
        variables = {MODULE_VARIABLE: mutant.module, FILE_VARIABLE: file.name, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=os.environ | variables,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_HANGS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0


def mutants_in(files: Sequence[Path]) -> list[Mutant]:
    """Return every mutant of some modules, those left out that change nothing."""
    found = [mutant for file in files for mutant in mutants_of(module_of(file), file.read_text())]
    return [mutant for mutant in found if mutant.name not in EQUIVALENT]


def module_of(file: Path) -> str:
    """Return the dotted name of a module of the product."""
    return ".".join(file.relative_to(ROOT / "src").with_suffix("").parts)


def unchanged(file: Path) -> Mutant:
    """Return a module as it is, in a mutant's form: with it the tests must pass."""
    return Mutant(module_of(file), "unchanged", 0, "", "", file.read_text())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("packages", nargs="*", help="packages, such as protocol (default: all)")
    parser.add_argument("--mutants", type=int, default=20, metavar="N", help="for each package (default 20)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N")
    options = parser.parse_args(arguments)
    report: dict[str, dict[str, int]] = {}
    survivors: list[str] = []
    for package, files in mutated_packages().items():
        short = package.removeprefix(f"{PACKAGE}.")
        if options.packages and short not in options.packages:
            continue
        if not survives(unchanged(files[0])):
            print(f"{short}: its tests fail without a mutant", flush=True)
            return 1
        chosen = choose(mutants_in(files), options.mutants)
        with ThreadPoolExecutor(options.jobs) as pool:
            alive = [m for m, survived in zip(chosen, pool.map(survives, chosen), strict=True) if survived]
        report[short] = {"mutants": len(chosen), "killed": len(chosen) - len(alive)}
        print(f"{short}: {len(chosen) - len(alive)} of {len(chosen)} noticed", flush=True)
        for mutant in alive:
            print(f"  line {mutant.line}: {mutant.name}", flush=True)
            survivors.append(mutant.name)
    print(json.dumps({"packages": report, "survivors": survivors}))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

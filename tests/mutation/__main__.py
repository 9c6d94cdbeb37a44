"""``python -m tests.mutation``: mutants of the pure packages against their unit tests.

The last line is one JSON object. Exit code 1 where a mutant survives.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.mutation.equivalent import EQUIVALENT
from tests.mutation.mutants import Mutant, in_order, mutants_of
from tests.mutation.packages import PACKAGE, ROOT, mutated_packages, paths_for
from tests.mutation.run import BROKEN, PASSED, run_tests


def result_of(mutant: Mutant) -> int:
    """Run the tests of a mutant's module, and those of its package where these pass."""
    result = PASSED
    for paths in paths_for(mutant.module):
        if paths and result == PASSED:
            result = run_tests(mutant.module, mutant.source, paths)
    return result


def mutants_in(files: Sequence[Path]) -> list[Mutant]:
    """Return every mutant of some modules, those left out that change nothing."""
    found = [mutant for file in files for mutant in mutants_of(module_of(file), file.read_text())]
    return [mutant for mutant in found if mutant.name not in EQUIVALENT]


def module_of(file: Path) -> str:
    """Return the dotted name of a module of the product."""
    return ".".join(file.relative_to(ROOT / "src").with_suffix("").parts)


def passes_unchanged(file: Path) -> bool:
    """Tell whether the tests of a package pass with a module that is loaded as a mutant is, but unchanged."""
    own, others = paths_for(module_of(file))
    return run_tests(module_of(file), file.read_text(), own + others) == PASSED


def results_of(mutants: Sequence[Mutant], number: int, pool: ThreadPoolExecutor) -> list[tuple[Mutant, int]]:
    """Return ``number`` mutants and what the tests say of each, or all that there are.

    A mutant whose tests cannot even be imported counts for nothing: another takes its place.
    """
    waiting = in_order(list(mutants))
    found: list[tuple[Mutant, int]] = []
    while waiting and len(found) < number:
        missing = number - len(found)
        chosen, waiting = waiting[:missing], waiting[missing:]
        results = zip(chosen, pool.map(result_of, chosen), strict=True)
        found += [(mutant, result) for mutant, result in results if result != BROKEN]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the mutants; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("packages", nargs="*", help="packages, such as protocol (default: all)")
    parser.add_argument("--mutants", type=int, default=20, metavar="N", help="for each package (default 20)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="at the same time (default 2)")
    options = parser.parse_args(arguments)
    packages = {name.removeprefix(f"{PACKAGE}."): files for name, files in mutated_packages().items()}
    if unknown := set(options.packages) - set(packages):
        parser.error(f"no pure package: {', '.join(sorted(unknown))}")
    report: dict[str, dict[str, int]] = {}
    survivors: list[str] = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for package in options.packages or packages:
            files = packages[package]
            if not passes_unchanged(files[0]):
                print(f"{package}: its tests fail without a mutant", flush=True)
                return 1
            results = results_of(mutants_in(files), options.mutants, pool)
            alive = [mutant for mutant, result in results if result == PASSED]
            report[package] = {"mutants": len(results), "killed": len(results) - len(alive)}
            print(f"{package}: {len(results) - len(alive)} of {len(results)} killed", flush=True)
            for mutant in alive:
                print(f"  line {mutant.line}: {mutant.name}", flush=True)
                survivors.append(mutant.name)
    print(json.dumps({"packages": report, "survivors": survivors}))
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

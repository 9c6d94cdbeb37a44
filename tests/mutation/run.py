"""Runs tests against one mutant, in a process that has it in the place of its module.

Each run is forked from a process that has imported the libraries, and nothing of the product.
"""

import importlib.abc
import importlib.util
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

import pytest
from hypothesis import Phase, settings

from tests.mutation.packages import PACKAGE

__all__ = ["BROKEN", "FAILED", "HANGS", "PASSED", "run_tests"]

PASSED: Final = int(pytest.ExitCode.OK)
FAILED: Final = int(pytest.ExitCode.TESTS_FAILED)
BROKEN: Final = int(pytest.ExitCode.INTERRUPTED)
"""The tests cannot be collected: importing the mutant fails."""
HANGS: Final = -1
"""The tests never end, or their memory has no end."""

# With a mutant, tests can run or wait for ever. Without one they take a fifth of these limits at most.
_CPU_LIMIT: Final = 60
"""Seconds of the processor for all tests of a run."""
_TEST_LIMIT: Final = 60
"""Seconds for one test."""
_WALL_LIMIT: Final = 600.0
"""Seconds for all tests of a run."""
_MEMORY_LIMIT: Final = 4 * 2**30
"""Bytes of address space."""

#: Added to pytest's exit code: a process that Python ends for an exception exits with 1, as pytest does.
_OFFSET: Final = 10

_CONTEXT: Final = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["aiohttp.web", "hypothesis.stateful", "msgspec", "tests.conftest", __name__])


class _MutantFinder(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds and loads one module from a text; leaves all others to the finders after it."""

    def __init__(self, module: str, source: str) -> None:
        self._module = module
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def get_source(self, fullname: str) -> str:
        return self._source


class _Quick:
    """A pytest plugin: Hypothesis looks for one failing example, and neither shrinks nor keeps it."""

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self) -> None:
        quick = settings(database=None, phases=[Phase.explicit, Phase.generate])
        settings.register_profile("mutation", parent=quick)
        settings.load_profile("mutation")


def run_tests(module: str, source: str, paths: Sequence[str]) -> int:
    """Run tests with ``source`` as the module; returns ``PASSED``, ``FAILED``, ``BROKEN`` or ``HANGS``.

    Raises:
        RuntimeError: pytest itself failed, for example because it found no tests.
    """
    process = _CONTEXT.Process(target=_run, args=(module, source, list(paths)))
    process.start()
    process.join(_WALL_LIMIT)
    if process.is_alive():
        assert process.pid is not None
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
    code = process.exitcode
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return HANGS
    if code is None or code - _OFFSET not in (PASSED, FAILED, BROKEN):
        raise RuntimeError(f"pytest ends with {code} for {' '.join(paths)}")
    return code - _OFFSET


def _run(module: str, source: str, paths: Sequence[str]) -> None:
    """Become the process that runs the tests; exits with pytest's code."""
    os.setsid()
    silence = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_LIMIT, _CPU_LIMIT))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    assert PACKAGE not in sys.modules, "the mutant comes too late"
    sys.meta_path.insert(0, _MutantFinder(module, source))
    arguments = ["-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:xdist"]
    arguments += ["--hypothesis-seed=0", f"--timeout={_TEST_LIMIT}"]
    arguments += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # of libraries that are imported before
    sys.exit(int(pytest.main([*arguments, *paths], plugins=[_Quick()])) + _OFFSET)

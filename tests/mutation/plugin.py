"""A pytest plugin that puts a mutant in the place of its module, before anything imports it.

``OZ_MUTANT_MODULE`` names the module, ``OZ_MUTANT_FILE`` the file with the changed source.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

__all__ = ["FILE_VARIABLE", "MODULE_VARIABLE"]

MODULE_VARIABLE = "OZ_MUTANT_MODULE"
FILE_VARIABLE = "OZ_MUTANT_FILE"


class _MutantFinder(importlib.abc.MetaPathFinder):
    """Finds one module in another file; leaves all others to the finders after it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != os.environ[MODULE_VARIABLE]:
            return None
        return importlib.util.spec_from_file_location(fullname, os.environ[FILE_VARIABLE])


if MODULE_VARIABLE in os.environ:
    assert os.environ[MODULE_VARIABLE] not in sys.modules, "the mutant comes too late"
    sys.meta_path.insert(0, _MutantFinder())

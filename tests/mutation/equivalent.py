"""Mutants that no test can notice, because the program does the same; each with its reason."""

from collections.abc import Mapping
from typing import Final

__all__ = ["EQUIVALENT"]

EQUIVALENT: Final[Mapping[str, str]] = {}

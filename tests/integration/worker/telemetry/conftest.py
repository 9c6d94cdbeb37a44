"""The SDK reads the process's own environment: no variable of the machine may count."""

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _untouched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in os.environ:
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)
    library = logging.getLogger("opentelemetry")
    before = library.handlers, library.propagate
    yield
    library.handlers, library.propagate = before


@pytest.fixture
def otel(monkeypatch: pytest.MonkeyPatch) -> "Environ":
    """Set variables, for the SDK and for the worker."""
    return Environ(monkeypatch)


class Environ:
    """Variables, in the process's environment and as a dictionary."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, **variables: object) -> dict[str, str]:
        environ = {name: str(value) for name, value in variables.items()}
        for name, value in environ.items():
            self._monkeypatch.setenv(name, value)
        return environ

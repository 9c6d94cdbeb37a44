"""What a test looks at in a rendered chart, as functions of its objects."""

from collections.abc import Callable, Iterator
from typing import Any

from oz_agent_worker.worker.config.load import parse_file
from oz_agent_worker.worker.config.schema import FileConfig

from .objects import Object, container, environment, pick, worker_config

__all__ = ["Look", "argument", "at", "config", "exists", "in_container", "in_pod", "key", "texts", "variable"]

Look = Callable[[list[Object]], Any]


def config(objects: list[Object]) -> FileConfig:
    """The config file, as the worker reads it."""
    read, problems = parse_file(worker_config(objects), "config.yaml")
    assert problems.found == []
    return read


def key(name: str) -> Look:
    """A key of the config file: of the backend, or else of the file itself."""

    def look(objects: list[Object]) -> Any:
        read = config(objects)
        backend = read.backend["kubernetes"]
        return getattr(backend if hasattr(backend, name) else read, name)

    return look


def at(kind: str, *path: str | int) -> Look:
    """What an object has at a path of keys and indices; None if it has nothing there."""

    def look(objects: list[Object]) -> Any:
        found: Any = pick(objects, kind)
        for part in path:
            found = found[part] if isinstance(part, int) else found.get(part)
            if found is None:
                return None
        return found

    return look


def in_pod(*path: str | int) -> Look:
    """What the Deployment's Pod has at a path."""
    return at("Deployment", "spec", "template", *path)


def in_container(*path: str | int) -> Look:
    """What the Deployment's container has at a path."""
    return in_pod("spec", "containers", 0, *path)


def variable(name: str) -> Look:
    """A variable of the container: its value, or its source."""
    return lambda objects: environment(container(objects))[name]


def argument(prefix: str) -> Look:
    """The rest of the container's argument that begins so; None if there is none."""

    def look(objects: list[Object]) -> Any:
        words = container(objects)["args"]
        return next((word.removeprefix(prefix) for word in words if word.startswith(prefix)), None)

    return look


def exists(kind: str) -> Look:
    """Whether there is an object of a kind."""
    return lambda objects: any(found["kind"] == kind for found in objects)


def texts(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Each scalar of an object that Kubernetes wants as a text, with its path.

    These are names, labels, annotations, selectors, arguments and variables.
    """
    if isinstance(node, dict):
        for name, value in node.items():
            yield from texts(value, f"{path}/{name}")
    elif isinstance(node, list):
        for value in node:
            yield from texts(value, f"{path}/")
    elif any(path.endswith(f"/{name}") for name in _SCALARS) or any(f"/{name}/" in path for name in _MAPS):
        yield path, node


_SCALARS = ("name", "namespace", "image", "args/", "value", "key", "mountPath", "host", "values/")
_MAPS = ("labels", "annotations", "matchLabels", "nodeSelector", "data")

"""What tests ask of rendered objects."""

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["container", "environment", "kinds", "named", "pick", "pod_specs", "worker_config"]

Object = dict[str, Any]


def pick(objects: Iterable[Object], kind: str, name: str | None = None) -> Object:
    """Return the one object of a kind (and a name), the tests' hooks aside where it is no Pod."""
    found = [o for o in objects if o["kind"] == kind and name in (None, o["metadata"]["name"])]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} objects of kind {kind}, not one")
    return found[0]


def kinds(objects: Iterable[Object]) -> list[str]:
    """Return the kinds, in order of the alphabet."""
    return sorted(o["kind"] for o in objects)


def container(objects: Iterable[Object]) -> Object:
    """Return the Deployment's one container."""
    (found,) = pick(objects, "Deployment")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def environment(of: Object) -> dict[str, Any]:
    """Return a container's variables: a value, or its source. A duplicate name fails."""
    names = [entry["name"] for entry in of["env"]]
    assert len(names) == len(set(names)), f"variables occur twice: {names}"
    return {entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in of["env"]}


def named(items: Sequence[Object], name: str) -> Object:
    """Return the item of a list that has this name."""
    return next(item for item in items if item["name"] == name)


def pod_specs(objects: Iterable[Object]) -> list[Object]:
    """Return the PodSpec of each Deployment and each Pod."""
    return [
        o["spec"]["template"]["spec"] if o["kind"] == "Deployment" else o["spec"]
        for o in objects
        if o["kind"] in {"Deployment", "Pod"}
    ]


def worker_config(objects: Iterable[Object]) -> str:
    """Return the worker's config file."""
    texts = [found["data"].get("config.yaml") for found in objects if found["kind"] == "ConfigMap"]
    (config,) = filter(None, texts)
    return str(config)

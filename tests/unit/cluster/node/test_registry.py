"""The registry that a real container runtime pulls from."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.cluster.node.images import File, Image, image_config, layer
from tests.cluster.node.registry import Registry


def get(registry: Registry, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{registry.reference('')}{path.removeprefix('/')}") as answer:
        content: bytes = answer.read()
    return content


def test_an_image_is_pulled_by_manifest_configuration_and_layer() -> None:
    image = Image("late:1", [layer({"a": File(b"1")})])
    with Registry([image]) as registry:
        manifest: Any = json.loads(get(registry, "/v2/late/manifests/1"))
        assert get(registry, f"/v2/late/blobs/{manifest['config']['digest']}") == image_config(image)
        (described,) = manifest["layers"]
        assert get(registry, f"/v2/late/blobs/{described['digest']}") == image.layers[0]
        assert described["size"] == len(image.layers[0])


def test_it_fails_as_often_as_it_shall() -> None:
    with Registry([Image("late:1", [])], failures=1) as registry:
        assert status(registry, "/v2/late/manifests/1") == 503
        assert status(registry, "/v2/late/manifests/1") == 200
        assert status(registry, "/v2/other/manifests/1") == 404


def status(registry: Registry, path: str) -> int:
    try:
        get(registry, path)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    return 200


def test_its_address_is_loopback() -> None:
    with Registry() as registry:
        assert registry.reference("x:1").startswith("127.0.0.1:")
        with pytest.raises(urllib.error.HTTPError, match="404") as raised:
            get(registry, "/v2/x/manifests/1")
        raised.value.close()

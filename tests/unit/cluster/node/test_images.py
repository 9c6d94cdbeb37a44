"""Images made of a few files."""

import hashlib
import io
import json
import stat
import tarfile
from pathlib import Path
from typing import Any

from tests.cluster.node.images import File, Image, Link, archive, digest, image_config, layer


def opened(content: bytes) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(content))


def test_a_layer_has_its_folders_before_its_files() -> None:
    with opened(layer({"a/b/c": File(b"text", 0o755), "a/link": Link("b/c")})) as tar:
        assert tar.getnames() == ["a", "a/b", "a/b/c", "a/link"]
        assert tar.getmember("a/b").isdir()
        assert stat.S_IMODE(tar.getmember("a/b/c").mode) == 0o755
        assert tar.getmember("a/link").linkname == "b/c"


def test_equal_entries_give_equal_layers() -> None:
    assert layer({"a": File(b"1"), "b": File(b"2")}) == layer({"b": File(b"2"), "a": File(b"1")})


def test_an_archive_names_each_image_its_configuration_and_its_layers(tmp_path: Path) -> None:
    base, top = layer({"base": File(b"")}), layer({"top": File(b"")})
    images = [Image("oz.test/one:1", [base]), Image("oz.test/two:1", [base, top], ("/run",))]
    archive(images, tmp_path / "images.tar")
    with tarfile.open(tmp_path / "images.tar") as tar:
        contents: dict[str, bytes] = {}
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            contents[member.name] = file.read()
    manifest: Any = json.loads(contents["manifest.json"])
    assert [entry["RepoTags"] for entry in manifest] == [["oz.test/one:1"], ["oz.test/two:1"]]
    assert [contents[name] for name in manifest[1]["Layers"]] == [base, top]
    config: Any = json.loads(contents[manifest[1]["Config"]])
    assert config["rootfs"]["diff_ids"] == [digest(base), digest(top)]
    assert config["config"]["Cmd"] == ["/run"]


def test_an_images_identity_is_its_configurations() -> None:
    one, other = (Image(name, [b""], environment={"PATH": path}) for name, path in (("a", "/"), ("b", "/x")))
    assert image_config(one) != image_config(other)
    assert digest(b"") == f"sha256:{hashlib.sha256(b'').hexdigest()}"

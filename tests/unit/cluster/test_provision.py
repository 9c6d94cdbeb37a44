from pathlib import Path

import pytest

from tests.cluster import provision
from tests.cluster.errors import ProvisionError
from tests.cluster.provision import binaries, kubernetes_version


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """The cache folder that belongs to the module as it is."""
    return tmp_path / "kubernetes" / provision._cache_key()


def test_takes_what_setup_envtest_left_and_the_rest_from_the_cache(tmp_path: Path, cached: Path) -> None:
    assets = tmp_path / "assets"
    etcd = program(assets / "etcd")
    program(cached / "etcd")
    scheduler = program(cached / "kube-scheduler")
    environ = {"KUBEBUILDER_ASSETS": str(assets), "OZ_TEST_CACHE": str(tmp_path)}
    found = binaries(["etcd", "kube-scheduler"], environ)
    assert found == {"etcd": etcd, "kube-scheduler": scheduler}


def test_builds_what_is_nowhere_once(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[str] = []

    def build(go: Path, package: str, output: Path) -> None:
        built.append(package)
        program(output)

    monkeypatch.setattr(provision, "find_go", lambda required, cache: tmp_path / "go")
    monkeypatch.setattr(provision, "_go_build", build)
    environ = {"OZ_TEST_CACHE": str(tmp_path)}
    assert binaries(["kubelet"], environ) == {"kubelet": cached / "kubelet"}
    assert binaries(["kubelet"], environ) == {"kubelet": cached / "kubelet"}
    assert built == ["k8s.io/kubernetes/cmd/kubelet"]
    assert f"building kubelet for Kubernetes {kubernetes_version()}" in capsys.readouterr().err


def test_a_program_of_ours_is_built_again_when_its_source_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(go: Path, package: str, output: Path) -> None:
        program(output)

    monkeypatch.setattr(provision, "find_go", lambda required, cache: tmp_path / "go")
    monkeypatch.setattr(provision, "_go_build", build)
    monkeypatch.setattr(provision, "_cache_key", lambda: "key")
    monkeypatch.setattr(provision, "MODULE", tmp_path)
    source = tmp_path / "crilog" / "main.go"
    source.parent.mkdir()
    environ = {"OZ_TEST_CACHE": str(tmp_path)}
    (tmp_path / "go.mod").write_text("go 1.25.0\n\nk8s.io/kubernetes v1.35.4\n")
    built = []
    for text in ("package main // one", "package main // two", "package main // one"):
        source.write_text(text)
        built.append(binaries(["crilog"], environ)["crilog"])
    assert built[0] == built[2] != built[1]


def test_a_build_that_fails_leaves_nothing(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(go: Path, package: str, output: Path) -> None:
        program(output)
        raise ProvisionError("no space left")

    monkeypatch.setattr(provision, "find_go", lambda required, cache: tmp_path / "go")
    monkeypatch.setattr(provision, "_go_build", build)
    with pytest.raises(ProvisionError, match="no space left"):
        binaries(["kubelet"], {"OZ_TEST_CACHE": str(tmp_path)})
    assert [path.name for path in cached.iterdir()] == [".lock"]


def test_refuses_a_binary_that_is_none_of_ours() -> None:
    with pytest.raises(ProvisionError, match="unknown binary 'kubectl'"):
        binaries(["kubectl"])


def test_stamps_the_version_that_go_mod_requires() -> None:
    major, minor, _ = kubernetes_version().removeprefix("v").split(".")
    flags = provision._linker_flags()
    assert f"k8s.io/component-base/version.gitVersion={kubernetes_version()}" in flags
    assert f"gitMajor={major}" in flags
    assert f"gitMinor={minor}" in flags

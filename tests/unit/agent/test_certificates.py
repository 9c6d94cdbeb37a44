import ssl
from pathlib import Path

import pytest

from oz_agent_worker.agent import certificates
from oz_agent_worker.agent.certificates import find_bundle, trusting_context

#: A self-signed authority; nothing is ever signed with it.
BUNDLE = Path(__file__).parent / "authority.pem"


def places(cafile: str = "", capath: str = "") -> ssl.DefaultVerifyPaths:
    return ssl.DefaultVerifyPaths(cafile, capath, "SSL_CERT_FILE", "", "SSL_CERT_DIR", "")


def test_the_first_readable_bundle_is_used(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    first, second = tmp_path / "first.pem", tmp_path / "second.pem"
    first.touch()
    second.touch()
    assert find_bundle([tmp_path / "missing", tmp_path / "folder", first, second]) == first
    assert find_bundle([tmp_path / "missing"]) is None


@pytest.mark.parametrize("folder", ["", "empty", "missing"])
def test_the_bundle_is_trusted_if_the_system_has_no_authority(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "empty").mkdir()
    where = places(capath=str(tmp_path / folder) if folder else "")
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: where)
    monkeypatch.setattr(certificates, "find_bundle", lambda: BUNDLE)
    subjects = [entry["subject"] for entry in trusting_context().get_ca_certs()]
    assert ((("commonName", "authority.test"),),) in subjects


def test_the_bundle_is_not_loaded_if_the_system_has_authorities(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("ssl.get_default_verify_paths", lambda: places(cafile=str(BUNDLE)))
    monkeypatch.setattr(certificates, "find_bundle", lambda: tmp_path / "not to be read")
    context = trusting_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname

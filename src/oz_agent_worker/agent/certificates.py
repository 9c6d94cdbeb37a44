"""The certificate authorities that the agent trusts, in any task image.

The interpreter looks where the system that built it keeps them. If it finds none, the agent tries the
places of other systems, then the bundle that comes with the agent. ``SSL_CERT_FILE`` and ``SSL_CERT_DIR``
override all of this, as OpenSSL defines.
"""

import os
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["find_bundle", "trusting_context"]

#: The files that Go's crypto/x509 tries on Linux, in its order.
_SYSTEM_BUNDLES: Final = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/pki/tls/cacert.pem"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
#: The agent image's own bundle.
_BUNDLED: Final = Path(sys.prefix) / "etc" / "ca-certificates.crt"


def find_bundle(candidates: Sequence[Path] = (*_SYSTEM_BUNDLES, _BUNDLED)) -> Path | None:
    """Return the first readable file of ``candidates``."""
    return next((path for path in candidates if os.access(path, os.R_OK) and path.is_file()), None)


def trusting_context() -> ssl.SSLContext:
    """Return a context that verifies servers; without any authority it trusts no server."""
    context = ssl.create_default_context()
    if not _system_has_any() and (bundle := find_bundle()) is not None:
        context.load_verify_locations(cafile=bundle)
    return context


def _system_has_any() -> bool:
    """Whether the interpreter finds an authority in its default places."""
    places = ssl.get_default_verify_paths()
    if places.cafile:
        return True
    try:
        return bool(places.capath) and any(Path(places.capath).iterdir())
    except OSError:
        return False

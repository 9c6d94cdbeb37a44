"""Which certificate authorities the agent trusts, in whatever image it runs.

The interpreter's own idea of where they are is that of the system it was built on. So
the places of other systems are tried after it, and at last the bundle that came with the
agent, for images that have none. ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` win, as OpenSSL has it.
"""

import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["find_bundle", "trusting_context"]

#: As crypto/x509 of Go looks for them on Linux.
_SYSTEM_BUNDLES: Final = (
    Path("/etc/ssl/certs/ca-certificates.crt"),
    Path("/etc/pki/tls/certs/ca-bundle.crt"),
    Path("/etc/ssl/ca-bundle.pem"),
    Path("/etc/pki/tls/cacert.pem"),
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),
    Path("/etc/ssl/cert.pem"),
)
#: Where the agent image has its own.
_BUNDLED: Final = Path(sys.prefix) / "etc" / "ca-certificates.crt"


def find_bundle(candidates: Sequence[Path] = (*_SYSTEM_BUNDLES, _BUNDLED)) -> Path | None:
    """Return the first file of ``candidates`` that can be read."""
    for path in candidates:
        try:
            with path.open("rb"):
                return path
        except OSError:
            continue
    return None


def trusting_context() -> ssl.SSLContext:
    """Return a context that verifies servers; with no authority anywhere it trusts none."""
    context = ssl.create_default_context()
    if not _system_has_any() and (bundle := find_bundle()) is not None:
        context.load_verify_locations(cafile=bundle)
    return context


def _system_has_any() -> bool:
    """Whether there is an authority where the interpreter looks by itself."""
    places = ssl.get_default_verify_paths()
    if places.cafile:
        return True
    try:
        return bool(places.capath) and any(Path(places.capath).iterdir())
    except OSError:
        return False

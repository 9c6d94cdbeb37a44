"""Finds kubeconfig files where client-go does, and reads them again: their tokens and certificates change."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from .identity import CredentialsError
from .kubeconfig import Kubeconfig, Selection, merge_kubeconfigs, parse_kubeconfig

__all__ = ["SelectedContext", "display_path", "find_kubeconfigs"]

_CONFIG_KEY: Final = "backend.kubernetes.kubeconfig"


class SelectedContext:
    """One context of kubeconfig files, as they are at present.

    ``context`` is its name; the files' current context where it is ``None``. Another current context
    later changes nothing: it would be another cluster.

    Raises:
        CredentialsError: no file exists, which ``missing`` explains, or what they hold cannot be used.
    """

    def __init__(self, paths: Sequence[Path], context: str | None, missing: str) -> None:
        self._paths = paths
        self._missing = missing
        self._digest = b""
        self._context = context
        self.read()

    def read(self) -> Selection:
        """Return the selection; the files are parsed where their content has changed.

        Raises:
            CredentialsError: they cannot be read, or hold no usable context of this name.
        """
        texts = {path: text for path in self._paths if (text := _read(path)) is not None}
        digest = _digest(texts)
        if digest != self._digest:
            if not texts:
                raise CredentialsError(
                    f"no kubeconfig: {self._missing}. Set {_CONFIG_KEY} or $KUBECONFIG to a file that"
                    " `kubectl` works with"
                )
            configs = [parse_kubeconfig(text, path) for path, text in texts.items()]
            self._selection = _merged(configs).select(self._context)
            self._context = self._selection.context
            self._digest = digest
        return self._selection


def find_kubeconfigs(
    kubeconfig: str | None, environ: Mapping[str, str], service_account: Path
) -> tuple[list[Path], str]:
    """Return the paths to read, whether they exist or not, and what to say where none does.

    The file ``kubeconfig``, else those of $KUBECONFIG, else ``~/.kube/config``. ``service_account``
    is where a Pod would have one.
    """
    if kubeconfig:
        path = _expanded(kubeconfig, environ)
        return [path], f"{path}, which {_CONFIG_KEY} names, does not exist"
    listed = environ.get("KUBECONFIG", "")
    if listed:
        paths = dict.fromkeys(_expanded(name, environ) for name in listed.split(os.pathsep) if name)
        return list(paths), f"no file of $KUBECONFIG exists: {listed}"
    path = _expanded("~/.kube/config", environ)
    missing = f"{path} does not exist and $KUBECONFIG is not set"
    if environ.get("KUBERNETES_SERVICE_HOST"):
        missing += (
            f"; in this Pod no service account is mounted at {service_account} (automountServiceAccountToken)"
        )
    return [path], missing


def display_path(path: Path, environ: Mapping[str, str]) -> str:
    """Write a path as people do: ``~/.kube/config``."""
    home = _home(environ)
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)


def _merged(configs: Sequence[Kubeconfig]) -> Kubeconfig:
    return configs[0] if len(configs) == 1 else merge_kubeconfigs(configs)


def _read(path: Path) -> str | None:
    """Read a kubeconfig; ``None`` where the file does not exist."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CredentialsError(f"kubeconfig {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:  # not chained: the error holds the whole file
        raise CredentialsError(f"kubeconfig {path} is not UTF-8 text") from None


def _digest(texts: Mapping[Path, str]) -> bytes:
    digest = hashlib.sha256()
    for path, text in texts.items():
        digest.update(hashlib.sha256(f"{path}\0{text}".encode()).digest())
    return digest.digest()


def _expanded(name: str, environ: Mapping[str, str]) -> Path:
    path = _home(environ) / name[2:] if name.startswith("~/") else Path(name)
    return path.absolute()


def _home(environ: Mapping[str, str]) -> Path:
    return Path(environ["HOME"]) if environ.get("HOME") else Path.home()

"""Writes manifests as text for people and for kubectl; equal manifests give equal texts. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import yaml

from oz_agent_worker.common.secret import REDACTED

__all__ = ["render_job", "render_manifests", "without_values"]

# The order of the fields in Kubernetes' own documentation; all other fields are between the two
# groups, by name.
_FIRST: Final = (
    "apiVersion", "kind", "metadata", "name", "namespace", "labels", "annotations",
    "backoffLimit", "activeDeadlineSeconds", "ttlSecondsAfterFinished", "restartPolicy",
    "image", "imagePullPolicy", "command", "args", "workingDir", "env", "envFrom",
)  # fmt: skip
_LAST: Final = ("initContainers", "containers", "volumes", "volumeMounts", "spec", "template", "status")
_RANK: Final = {name: index for index, name in enumerate(_FIRST)} | {
    name: len(_FIRST) + 1 + index for index, name in enumerate(_LAST)
}


# What YAML of any version reads as a word. All else is quoted: 72225e2, 0o17, 1_000 and 12:30 are
# numbers to some readers and not to others (YAML 1.1, types int, float, bool; YAML 1.2.2, 10.3).
_WORD: Final = re.compile(r"-{0,2}[A-Za-z/_][A-Za-z0-9_./:@,+-]*(?<!:)")
_NO_WORD: Final = re.compile(r"-?(y|n|yes|no|on|off|true|false|null|nan|inf|infinity)", re.IGNORECASE)
# Printable lines that YAML 1.1 and 1.2 break in the same way. A literal block begins with a
# character that does not change its indentation.
_SCRIPT: Final = re.compile(r"(?!\s)[\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd]+")


class _Dumper(yaml.SafeDumper):
    """Writes words plainly, scripts as literal blocks, all other text quoted, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style: str | None = '"'
    if _WORD.fullmatch(text) and not _NO_WORD.fullmatch(text):
        style = None
    elif _SCRIPT.fullmatch(text) and ("\n" in text or '"' in text):
        style = "|" if "\n" in text else "'"
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def render_job(manifest: Mapping[str, Any], fmt: Literal["yaml", "json"]) -> str:
    """Write a manifest as YAML or JSON, ending in a newline.

    The text depends only on the content, not on the order of the manifest's fields.
    """
    ordered = _ordered(manifest)
    if fmt == "json":
        return json.dumps(ordered, indent=2, ensure_ascii=False) + "\n"
    # No line is folded: a folded command cannot be compared or copied.
    return yaml.dump(ordered, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))


def render_manifests(manifests: Sequence[Mapping[str, Any]], fmt: Literal["yaml", "json"]) -> str:
    """Write manifests as kubectl does: YAML documents, or one JSON object (several are a List)."""
    if fmt == "yaml":
        return "---\n".join(render_job(manifest, fmt) for manifest in manifests)
    if len(manifests) == 1:
        return render_job(manifests[0], fmt)
    return render_job({"apiVersion": "v1", "kind": "List", "items": list(manifests)}, fmt)


def without_values(secret: Mapping[str, Any]) -> dict[str, Any]:
    """Return a Secret's manifest without its values; the placeholder is not base64, so none can apply it."""
    return {**secret, "data": dict.fromkeys(secret["data"], REDACTED)}


def _ordered(value: Any) -> Any:
    if isinstance(value, Mapping):
        names = sorted(value, key=lambda name: (_RANK.get(name, len(_FIRST)), name))
        return {name: _ordered(value[name]) for name in names}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    return value

"""The documentation's texts that are made from code: keys, metrics, harnesses, alerts, failure reasons."""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from oz_agent_worker.agent.harnesses import HARNESSES
from oz_agent_worker.controlplane.api.list_request import PARAMETERS
from oz_agent_worker.controlplane.api.run_request import CONFIG_FIELDS, REQUEST_FIELDS
from oz_agent_worker.controlplane.problems import PROBLEM_KINDS
from oz_agent_worker.controlplane.rules.outcome_mapping import outcome_of
from oz_agent_worker.controlplane.rules.run_states import STATE_MEANINGS
from oz_agent_worker.protocol.failure_reasons import NAMED_OTHERWISE, FailureReason
from oz_agent_worker.protocol.frames import TaskFailed
from oz_agent_worker.worker.config.schema import BACKEND_SECTIONS, FileConfig
from oz_agent_worker.worker.telemetry.catalogue import METRICS, Label
from scripts.chart_values.config_keys import default_in_yaml

from .markdown import table

__all__ = [
    "SECTIONS",
    "alert_table",
    "api_tables",
    "failure_entries",
    "failure_table",
    "harness_table",
    "keys_table",
    "metric_table",
    "public_reasons_table",
]

#: The sections of a worker's config file by path; the root's is ``the file``.
SECTIONS: Final[Mapping[str, type]] = {
    "the file": FileConfig,
    **{f"backend.{name}": section for name, section in BACKEND_SECTIONS.items()},
}
_ALERT_RULES: Final = Path(__file__).parents[2] / "charts/oz-agent-worker/files/alerts.yaml"
#: The number of an alert's expression that an operator may tune; a comparison with ``==`` has none.
_THRESHOLD: Final = re.compile(r">=? ([0-9.]+)$")


def keys_table(section: type) -> str:
    """The keys of a section of the config file, in the schema's order."""
    rows = [
        (f"`{key.name}`", _default(key), key.metadata["shape"].describe, key.metadata["doc"])
        for key in dataclasses.fields(section)
    ]
    return table(("key", "default", "allowed", "meaning"), rows)


def _default(key: dataclasses.Field[Any]) -> str:
    value = default_in_yaml(key)
    if value is dataclasses.MISSING:
        return "required"
    if value in (None, "", [], {}):
        return ""
    return f"`{value}`" if isinstance(value, str) else f"`{json.dumps(value)}`"


def metric_table() -> str:
    """All metrics of the worker."""
    rows = [
        (
            f"`{metric.name}`",
            metric.kind,
            "<br>".join(map(_label, metric.labels)),
            metric.meaning + (" Kubernetes backend only." if metric.backend == "kubernetes" else ""),
        )
        for metric in METRICS
    ]
    return table(("metric", "kind", "labels", "meaning"), rows)


def _label(label: Label) -> str:
    if label.name == "reason" and label.values == tuple(reason.value for reason in FailureReason):
        return "`reason`: all of failure-reasons.md"
    values = ", ".join(label.values) or label.note
    return f"`{label.name}`: {values}" if values else f"`{label.name}`"


def api_tables() -> dict[str, str]:
    """The tables of docs/api.md, by name."""
    fields, states = ("field", "type", "meaning"), STATE_MEANINGS.items()
    return {
        "states of a run": table(("state", "means"), ((f"`{state}`", text) for state, text in states)),
        "fields of a request": table(fields, ((f"`{n}`", *text) for n, text in REQUEST_FIELDS.items())),
        "fields of config": table(fields, ((f"`{n}`", *text) for n, text in CONFIG_FIELDS.items())),
        "parameters of a list": table(
            ("parameter", "meaning"), ((f"`{name}`", text) for name, text in PARAMETERS.items())
        ),
        "kinds of errors": table(
            ("status", "`type` ends with", "when"),
            ((status, f"`{code}`", when) for status, code, when in PROBLEM_KINDS),
        ),
    }


def harness_table() -> str:
    """All harnesses of the agent runtime."""
    rows = [
        (f"`{harness.name}`", harness.about, "yes" if harness.takes_mcp else "no", harness.install_hint)
        for harness in HARNESSES.values()
    ]
    return table(("harness", "runs the prompt with", "MCP servers", "if its program is missing"), rows)


def alert_table() -> str:
    """All alerts of the worker's chart, each with a link to its entry in the runbook."""
    return table(("alert", "severity", "for", "threshold"), map(_alert, _alert_rules()))


def _alert_rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(_ALERT_RULES.read_text(encoding="utf-8"))["groups"]:
        yield from group["rules"]


def _alert(rule: dict[str, Any]) -> tuple[str, ...]:
    name, threshold = rule["alert"], _THRESHOLD.search(rule["expr"])
    link = f"[`{name}`](#{name.lower()})"
    return link, rule["labels"]["severity"], rule["for"], threshold[1] if threshold else ""


def failure_table() -> str:
    """All failure reasons, sorted by name."""
    rows = [(f"`{reason}`", reason.seen, reason.means, reason.fix) for reason in sorted(FailureReason)]
    return table(("reason", "seen", "means", "fix"), rows)


def public_reasons_table() -> str:
    """The failure reasons that are not those of the public worker, and what the public service gets."""
    own = [
        (reason.seen, f"`{reason}`", f"`{reason.public}`", f"`{reason.public}`")
        for reason in sorted(FailureReason)
        if reason.public != reason
    ]
    otherwise = [(d.seen, f"`{d.here}`", f"`{d.there}`", f"`{d.here}`") for d in NAMED_OTHERWISE]
    columns = ("seen", "reason here", "counts as, of the public reasons", "sent to the public service")
    return table(columns, own + otherwise)


def failure_entries() -> str:
    """The runbook's entries for failure reasons, sorted by name: what to look for, and what to do."""
    entries = "\n".join(
        f"### {reason}\n\n"
        f"- **Seen:** {reason.seen}.\n"
        f"- **Means:** {reason.means}\n"
        f"- **Do:** {reason.fix}\n"
        f"- **The run** {_end_of_run(reason)}.\n"
        for reason in sorted(FailureReason)
    )
    return f"\n{entries}\n"


def _end_of_run(reason: FailureReason) -> str:
    """What our control plane makes of a report with this reason and without an exit code."""
    if reason is FailureReason.CLEANUP:
        return "has ended before and is not changed"  # only metrics count this reason
    ending = outcome_of(TaskFailed(task_id="", message="", failure_reason=reason))
    retry = {True: ", retryable", False: ", not retryable", None: ""}[ending.retryable]
    return f"ends as `{ending.state}`{retry}"

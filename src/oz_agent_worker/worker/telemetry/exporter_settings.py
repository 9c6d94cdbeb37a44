"""Which exporters the environment chooses; pure.

The variables are OpenTelemetry's own ("Environment Variable Specification", "Prometheus
exporter"). What is not available is named in ``problems`` and left out: telemetry never
stops the worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.worker.probes.server import Endpoint

__all__ = ["ExporterSettings", "read_exporter_settings"]

_METRICS: Final = frozenset({"prometheus", "otlp", "console"})
_TRACES: Final = frozenset({"otlp", "console"})
_HTTP_PROTOBUF: Final = "http/protobuf"
_PROMETHEUS: Final = Endpoint("localhost", 9464)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterSettings:
    """The exporters to make. ``explicit``: the operator chose them, so that their failures are warnings."""

    metrics: frozenset[str] = frozenset()
    traces: frozenset[str] = frozenset()
    prometheus: Endpoint = _PROMETHEUS
    explicit: bool = False
    problems: tuple[str, ...] = ()


def read_exporter_settings(environ: Mapping[str, str]) -> ExporterSettings:
    """Read the exporters from the environment; an empty variable counts as unset."""
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return ExporterSettings()
    problems: list[str] = []
    return ExporterSettings(
        metrics=_exporters("METRICS", given, "otlp", _METRICS, problems),
        traces=_exporters("TRACES", given, "none", _TRACES, problems),
        prometheus=_endpoint(given, problems),
        explicit=any(
            name in ("OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER")
            or name.startswith("OTEL_EXPORTER_OTLP_")
            for name in given
        ),
        problems=tuple(problems),
    )


def _exporters(
    signal: str, given: Mapping[str, str], default: str, known: frozenset[str], problems: list[str]
) -> frozenset[str]:
    """Read a signal's list of exporters; ``none`` beside others means nothing."""
    variable = f"OTEL_{signal}_EXPORTER"
    names = {name.strip().lower() for name in given.get(variable, default).split(",")} - {"none", ""}
    allowed = ", ".join([*sorted(known), "none"])
    problems += [f"{variable}: {name!r} is not one of {allowed}" for name in sorted(names - known)]
    chosen = frozenset(names & known)
    common = given.get("OTEL_EXPORTER_OTLP_PROTOCOL", _HTTP_PROTOBUF)
    protocol = given.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", common)
    if "otlp" not in chosen or protocol == _HTTP_PROTOBUF:
        return chosen
    problems.append(
        f"the OTLP protocol {protocol!r} is not supported for {signal.lower()}: only {_HTTP_PROTOBUF} is,"
        " usually on port 4318"
    )
    return chosen - {"otlp"}


def _endpoint(given: Mapping[str, str], problems: list[str]) -> Endpoint:
    host = given.get("OTEL_EXPORTER_PROMETHEUS_HOST", _PROMETHEUS.host)
    text = given.get("OTEL_EXPORTER_PROMETHEUS_PORT", str(_PROMETHEUS.port))
    if text.isdecimal() and int(text) < 65536:
        return Endpoint(host, int(text))
    problems.append(f"OTEL_EXPORTER_PROMETHEUS_PORT: {text!r} is not a port; {_PROMETHEUS.port} is used")
    return Endpoint(host, _PROMETHEUS.port)

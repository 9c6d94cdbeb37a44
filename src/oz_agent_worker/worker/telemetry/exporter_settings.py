"""Which exporters the environment chooses; pure.

The variables are OpenTelemetry's own ("Environment Variable Specification", "Prometheus
exporter"). What cannot be had is named in ``problems`` and left out: telemetry never
stops the worker.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from oz_agent_worker.worker.probes.server import Endpoint

__all__ = ["Choice", "choose"]

_METRICS: Final = frozenset({"prometheus", "otlp", "console"})
_TRACES: Final = frozenset({"otlp", "console"})
_HTTP_PROTOBUF: Final = "http/protobuf"
_PROMETHEUS: Final = Endpoint("localhost", 9464)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Exporters to have. ``asked``: somebody chose them, and wants to hear where they fail."""

    metrics: frozenset[str] = frozenset()
    traces: frozenset[str] = frozenset()
    prometheus: Endpoint = _PROMETHEUS
    asked: bool = False
    problems: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there is any exporter at all."""
        return bool(self.metrics or self.traces)


def choose(environ: Mapping[str, str]) -> Choice:
    """Read the choice; an empty variable counts as unset."""
    given = {name: value.strip() for name, value in environ.items() if value.strip()}
    if given.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return Choice()
    problems: list[str] = []
    metrics = _exporters("OTEL_METRICS_EXPORTER", given, "otlp", _METRICS, problems)
    traces = _exporters("OTEL_TRACES_EXPORTER", given, "none", _TRACES, problems)
    return Choice(
        metrics=_without_foreign_protocol("METRICS", metrics, given, problems),
        traces=_without_foreign_protocol("TRACES", traces, given, problems),
        prometheus=_endpoint(given, problems),
        asked=any(name in _EXPORTERS or name.startswith(_OTLP) for name in given),
        problems=tuple(problems),
    )


#: Whoever sets one of these, or any that begins like this, wants telemetry, and not only
#: what is there by default.
_EXPORTERS: Final = frozenset({"OTEL_METRICS_EXPORTER", "OTEL_TRACES_EXPORTER"})
_OTLP: Final = "OTEL_EXPORTER_OTLP_"


def _exporters(
    variable: str, given: Mapping[str, str], default: str, known: frozenset[str], problems: list[str]
) -> frozenset[str]:
    """Read a list of exporters; ``none`` beside others means nothing."""
    names = {name.strip().lower() for name in given.get(variable, default).split(",")} - {"none", ""}
    allowed = ", ".join([*sorted(known), "none"])
    problems += [f"{variable}: {name!r} is not one of {allowed}" for name in sorted(names - known)]
    return frozenset(names & known)


def _without_foreign_protocol(
    signal: str, chosen: frozenset[str], given: Mapping[str, str], problems: list[str]
) -> frozenset[str]:
    common = given.get("OTEL_EXPORTER_OTLP_PROTOCOL", _HTTP_PROTOBUF)
    protocol = given.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", common)
    if "otlp" not in chosen or protocol == _HTTP_PROTOBUF:
        return chosen
    problems.append(
        f"the OTLP protocol {protocol!r} is not spoken for {signal.lower()}: {_HTTP_PROTOBUF} alone is,"
        " usually on port 4318"
    )
    return chosen - {"otlp"}


def _endpoint(given: Mapping[str, str], problems: list[str]) -> Endpoint:
    host = given.get("OTEL_EXPORTER_PROMETHEUS_HOST", _PROMETHEUS.host)
    text = given.get("OTEL_EXPORTER_PROMETHEUS_PORT", str(_PROMETHEUS.port))
    if text.isdecimal() and int(text) < 65536:
        return Endpoint(host, int(text))
    problems.append(f"OTEL_EXPORTER_PROMETHEUS_PORT: {text!r} is no port; {_PROMETHEUS.port} is used")
    return Endpoint(host, _PROMETHEUS.port)

"""The environment's choice of exporters."""

import pytest

from oz_agent_worker.worker.probes.server import Endpoint
from oz_agent_worker.worker.telemetry.exporter_settings import read_exporter_settings


@pytest.mark.parametrize(
    ("environ", "metrics", "traces"),
    [
        ({}, {"otlp"}, set()),
        ({"OTEL_METRICS_EXPORTER": ""}, {"otlp"}, set()),
        ({"OTEL_METRICS_EXPORTER": "none"}, set(), set()),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, {"prometheus"}, set()),
        ({"OTEL_METRICS_EXPORTER": " Prometheus, otlp "}, {"prometheus", "otlp"}, set()),
        ({"OTEL_METRICS_EXPORTER": "console", "OTEL_TRACES_EXPORTER": "none"}, {"console"}, set()),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "otlp"}, set(), {"otlp"}),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_TRACES_EXPORTER": "console"}, set(), {"console"}),
        ({"OTEL_SDK_DISABLED": "True", "OTEL_METRICS_EXPORTER": "prometheus"}, set(), set()),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, {"otlp"}, set()),
    ],
)
def test_what_is_chosen(environ: dict[str, str], metrics: set[str], traces: set[str]) -> None:
    choice = read_exporter_settings(environ)
    assert (set(choice.metrics), set(choice.traces), choice.problems) == (metrics, traces, ())


@pytest.mark.parametrize(
    ("environ", "metrics", "problem"),
    [
        (
            {"OTEL_METRICS_EXPORTER": "statsd,prometheus"},
            {"prometheus"},
            "OTEL_METRICS_EXPORTER: 'statsd' is not one of console, otlp, prometheus, none",
        ),
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            {"otlp"},
            "OTEL_TRACES_EXPORTER: 'zipkin' is not one of console, otlp, none",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            set(),
            "the OTLP protocol 'grpc' is not supported for metrics: only http/protobuf is,"
            " usually on port 4318",
        ),
        (
            {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_EXPORTER_PROMETHEUS_PORT": "94640"},
            {"prometheus"},
            "OTEL_EXPORTER_PROMETHEUS_PORT: '94640' is not a port; 9464 is used",
        ),
    ],
)
def test_unavailable_exporters_are_reported_and_left_out(
    environ: dict[str, str], metrics: set[str], problem: str
) -> None:
    choice = read_exporter_settings(environ)
    assert (set(choice.metrics), list(choice.problems)) == (metrics, [problem])


@pytest.mark.parametrize(("text", "port"), [("0", 0), ("65535", 65535), ("65536", 9464), ("-1", 9464)])
def test_a_port_is_at_most_65535(text: str, port: int) -> None:
    assert read_exporter_settings({"OTEL_EXPORTER_PROMETHEUS_PORT": text}).prometheus.port == port


def test_a_signal_has_its_own_protocol() -> None:
    choice = read_exporter_settings(
        {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
            "OTEL_EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf",
        }
    )
    assert (set(choice.metrics), set(choice.traces)) == ({"otlp"}, set())


def test_where_prometheus_scrapes() -> None:
    assert read_exporter_settings({}).prometheus == Endpoint("localhost", 9464)
    environ = {"OTEL_EXPORTER_PROMETHEUS_HOST": "::", "OTEL_EXPORTER_PROMETHEUS_PORT": "9000"}
    assert read_exporter_settings(environ).prometheus == Endpoint("::", 9000)


@pytest.mark.parametrize(
    ("environ", "explicit"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "x"}, False),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
    ],
)
def test_whether_anybody_asked(environ: dict[str, str], explicit: bool) -> None:
    assert read_exporter_settings(environ).explicit is explicit

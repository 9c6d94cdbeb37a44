"""Prometheus as a process of the test, on loopback, and its HTTP API."""

import json
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from tests.timeouts import HANG_TIMEOUT

__all__ = ["Programs", "Prometheus", "PrometheusError", "Series", "serving"]

HOST: Final = "127.0.0.1"
"""How long Prometheus may take until it is ready, in seconds."""


class PrometheusError(Exception):
    """Prometheus or promtool refused its input; the message is its output."""


@dataclass(frozen=True, slots=True)
class Programs:
    """Paths of the two programs."""

    prometheus: Path
    promtool: Path

    def tool(self, *arguments: str | Path) -> str:
        """Run promtool and return what it printed.

        Raises:
            PrometheusError: it failed.
        """
        command = [str(self.promtool), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise PrometheusError(done.stdout + done.stderr)
        return done.stdout


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an answer: its labels, and (time, value) pairs, one alone of an instant query."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


_Parameters: TypeAlias = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The HTTP API of a Prometheus (prometheus.io/docs/prometheus/latest/querying/api)."""

    url: str

    def query(self, expression: str, at: float) -> list[Series]:
        """Evaluate an expression at one time, in seconds since the epoch.

        Raises:
            PrometheusError: it does not parse, or cannot be evaluated.
        """
        found = self._ask("query", {"query": expression, "time": at})
        if found["resultType"] == "scalar":
            return [Series({}, (_point(found["result"]),))]
        return [Series(item["metric"], (_point(item["value"]),)) for item in found["result"]]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Evaluate an expression from ``start`` to ``end``, every ``step`` seconds.

        Raises:
            PrometheusError: it does not parse, or cannot be evaluated.
        """
        asked: _Parameters = {"query": expression, "start": start, "end": end, "step": step}
        result = self._ask("query_range", asked)["result"]
        return [Series(item["metric"], tuple(map(_point, item["values"]))) for item in result]

    def formatted(self, expression: str) -> str:
        """Return an expression as Prometheus writes it, which only one that parses can be.

        Raises:
            PrometheusError: it does not parse.
        """
        text = self._ask("format_query", {"query": expression})
        assert isinstance(text, str)
        return text

    def label_values(self, label: str, selector: str) -> list[str]:
        """Return the values of a label among the series of a selector."""
        values: list[str] = self._ask(f"label/{label}/values", {"match[]": selector})
        return values

    def _ask(self, path: str, parameters: _Parameters) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=HANG_TIMEOUT) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{parameters}: {error.read().decode()}") from error


def _point(pair: tuple[float, str]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


@contextmanager
def serving(programs: Programs, folder: Path, config: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Run Prometheus with a configuration, on the data in ``folder/data``, which may exist beforehand.

    Raises:
        PrometheusError: it does not become ready.
    """
    file, port = folder / "prometheus.json", _free_port()
    # Every JSON text is YAML.
    file.write_text(json.dumps(config), encoding="utf-8")
    address = f"{HOST}:{port}"
    options = {
        "config.file": file,
        "storage.tsdb.path": folder / "data",
        "storage.tsdb.retention.time": "100y",
        "web.listen-address": address,
    }
    command = [str(programs.prometheus), *(f"--{name}={value}" for name, value in options.items())]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    try:
        _await_ready(process, f"http://{address}", folder / "prometheus.log")
        yield Prometheus(f"http://{address}")
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + HANG_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise PrometheusError(f"Prometheus does not become ready: {log.read_text(encoding='utf-8')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port

"""The references are complete: routes, fields, frames, variables, exit codes."""

import inspect
import re
import tokenize
from pathlib import Path
from typing import Any, Final
from unittest.mock import MagicMock

import click
import msgspec
import pytest
from starlette.routing import Route, WebSocketRoute

from oz_agent_worker.controlplane.api import list_request, run_request
from oz_agent_worker.controlplane.api.routes import build_app
from oz_agent_worker.controlplane.api.run_item import run_item
from oz_agent_worker.controlplane.problems import PROBLEM_KINDS, Code
from oz_agent_worker.controlplane.rules.run_states import STATE_MEANINGS, RunState
from oz_agent_worker.controlplane.store.run_list import SortBy
from oz_agent_worker.controlplane.store.runs import Run
from oz_agent_worker.errors import ExitCode
from oz_agent_worker.protocol import frames
from oz_agent_worker.protocol.failure_reasons import FailureReason
from oz_agent_worker.worker.telemetry.catalogue import METRICS
from scripts.docs.commandline import commands
from scripts.docs.markdown import replace_parts, table
from scripts.docs.parts import DOCS, PARTS, ROOT, behind

from .documents import anchors, marked, read, table_column

API: Final = DOCS / "api.md"
PROTOCOL: Final = DOCS / "protocol.md"


def test_generated_parts_are_current() -> None:
    names = [path.relative_to(ROOT).as_posix() for path, _ in behind()]
    assert not names, f"run `make docs`, which writes {', '.join(names)}"


def test_every_generated_part_is_shown_somewhere() -> None:
    shown = "".join(read(path) for path in DOCS.glob("*.md"))
    assert [name for name in PARTS if f"<!-- {name}, written by `make docs` -->\n" not in shown] == []


def test_only_what_is_between_the_comments_is_replaced() -> None:
    begin, end = "<!-- a part, written by `make docs` -->", "<!-- end of the part -->"
    parts = {"a part": lambda: "new\n"}
    document = f"before\n{begin}\nold\n{end}\nmiddle\n{begin}\n{end}\nafter {end}\n"
    replaced = f"before\n{begin}\nnew\n{end}\nmiddle\n{begin}\nnew\n{end}\nafter {end}\n"
    assert replace_parts(document, parts) == replaced
    assert replace_parts(replaced, parts) == replaced
    with pytest.raises(KeyError, match="another"):
        replace_parts(document.replace("a part", "another"), parts)


def test_a_table_keeps_its_rows_and_columns() -> None:
    assert table(("a", "b"), [("x|y", "1\n2")]) == "| a | b |\n| --- | --- |\n| x\\|y | 1 2 |\n"


def test_files_that_are_behind_are_named(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for path in ROOT.glob("charts/*/values.schema.yaml"):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True)
        copy.write_text(read(path))
    for path in DOCS.glob("*.md"):
        (tmp_path / "docs" / path.name).write_text(read(path))
    late = tmp_path / "docs/commands.md"
    late.write_text(read(late).replace("--host", "--hosts"))
    names = {path.relative_to(tmp_path).as_posix() for path, _ in behind(tmp_path)}
    missing = {f"charts/{chart}/{name}" for chart in ("oz-agent-worker", "oz-control-plane")
               for name in ("values.yaml", "values.schema.json", "files/schema.yaml")}  # fmt: skip
    assert names == {"docs/commands.md", "charts/oz-agent-worker/files/dashboard.json"} | missing


def test_the_routes_are_those_of_the_application() -> None:
    routes = build_app(MagicMock(), MagicMock()).routes
    # Left out: the catch-all routes, and the plain GET that explains a WebSocket.
    sockets = {route.path for route in routes if isinstance(route, WebSocketRoute) and "{" not in route.path}
    there = {(path, "WebSocket") for path in sockets}
    for route in routes:
        if isinstance(route, Route) and route.path not in sockets:
            there |= {(route.path, method) for method in (route.methods or set()) - {"HEAD"}}
    table = read(API).partition("| route |")[2].partition("\n\n")[0]
    rows = [row.split(" | ") for row in ("| route |" + table).splitlines()[2:]]
    listed = {(found[1], row[1]) for row in rows if (found := re.search(r"`([^`]+)`", row[0]))}
    assert listed | {("/api/v1/agent/run", "POST")} == there


def test_the_fields_of_a_request_are_those_it_takes() -> None:
    assert sorted(run_request.REQUEST_FIELDS) == sorted(run_request.RunRequest.__struct_fields__)
    assert sorted(run_request.CONFIG_FIELDS) == sorted(run_request.RunConfig.__struct_fields__)


def test_the_fields_of_a_run_are_complete() -> None:
    class Anything:
        """A run with a value for everything."""

        state = RunState.FAILED
        config = "{}"
        cancel_requested = False
        lease_until = None
        created_at = updated_at = started_at = 1_000_000
        ended_at = 2_000_000
        safe_to_retry = True

        def __getattr__(self, name: str) -> str:
            assert name in Run.__dataclass_fields__ or hasattr(Run, name), name
            return name

    run: Any = Anything()
    assert sorted(table_column(marked(API, "fields of a run", "end of the fields"))) == sorted(
        run_item(run, {"a": "b"})
    )


def test_the_parameters_of_a_list_are_those_it_takes() -> None:
    source = inspect.getsource(list_request)
    read_by_name = set(re.findall(r'params(?:, |\.get\(|\.getlist\(|\[)"(\w+)"|"(\w+)" in params', source))
    taken = {name for names in read_by_name for name in names if name}
    taken |= {*list_request._EQUAL, *list_request._FOREIGN, "metadata[KEY]"}
    assert set(list_request.PARAMETERS) == taken
    assert set(re.findall(r"`(\w+)`", list_request.PARAMETERS["sort_by"])) == set(SortBy)


def test_states_and_errors_are_those_there_are() -> None:
    assert set(STATE_MEANINGS) == set(RunState)
    assert {code for _, code, _ in PROBLEM_KINDS} == set(Code)


def test_frames_and_their_fields_are_complete() -> None:
    decoders = frames._CONTROL_PLANE | frames._WORKER
    text = read(PROTOCOL)
    for kind, decoder in decoders.items():
        assert f"`{kind}`" in text
        for field in msgspec.structs.fields(decoder.type):
            assert re.search(rf"[`\"]{field.encode_name}[`\"]", text), f"{kind}.{field.encode_name}"
    assert set(frames.Capability) <= anchors(PROTOCOL)
    assert f"{frames.CAPABILITIES_HEADER}: {frames.format_capabilities(frames.Capability)}\n" in text
    hello = text.partition("| field | meaning |")[2].partition("\n\n")[0]
    rows = table_column("| field | meaning |" + hello)
    assert [name for name in rows if name in frames.WorkerHello.__struct_fields__] == list(
        frames.WorkerHello.__struct_fields__
    )


def test_every_failure_reason_has_an_entry() -> None:
    assert set(FailureReason) <= anchors(DOCS / "operations.md")
    assert "- **The run** ends as `FAILED`, not retryable.\n" in PARTS["entries for failure reasons"]()


def test_exit_codes_are_complete() -> None:
    rows = re.findall(r"^\| (\d+) \|", read(DOCS / "commands.md"), re.MULTILINE)
    assert [int(row) for row in rows] == list(ExitCode)


def test_metrics_in_the_runbook_exist() -> None:
    known = {metric.name for metric in METRICS}
    named = set(re.findall(r"\boz_worker_\w+", read(DOCS / "operations.md")))
    assert named
    assert named <= known


def test_every_variable_of_an_option_is_in_the_configuration() -> None:
    text = read(DOCS / "configuration.md")
    options = [o for c in commands().values() for o in c.params if isinstance(o, click.Option)]
    variables = {o.envvar for o in options if isinstance(o.envvar, str)}
    assert variables
    for variable in variables:
        assert f"`{variable}`" in text


def test_every_variable_that_the_programs_read_is_in_the_configuration() -> None:
    text = read(DOCS / "configuration.md")
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        with tokenize.open(path) as file:
            for token in tokenize.generate_tokens(file.readline):
                if token.type == tokenize.STRING:
                    found |= set(re.findall(r"^[\"'](OZ_[A-Z_]+)[\"']$", token.string))
    assert {"OZ_POD_NAME", "OZ_AGENT_QUIET"} <= found
    assert [name for name in sorted(found) if f"`{name}`" not in text] == []

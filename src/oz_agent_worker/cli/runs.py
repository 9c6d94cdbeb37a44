"""The commands ``run``, ``runs``, ``logs`` and ``cancel`` of a control plane's users."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import click

from oz_agent_worker.agent.harnesses import HARNESSES
from oz_agent_worker.errors import ExitCode, OzError, UsageError

from .api_client import TERMINAL_STATES, ApiClient
from .context import resolve_target, target_options
from .output import age, echo_json, echo_json_line, output_option, printable, state_text, table

__all__ = ["cancel", "ending", "exit_code_of", "logs", "read_prompt_file", "run", "runs", "stream_run"]


def _with_client(
    server: str | None, api_key: str | None, use: Callable[[ApiClient], Coroutine[Any, Any, int]]
) -> None:
    """Call ``use`` with a client, and exit with the code that it returns."""

    async def main() -> int:
        async with ApiClient.connect(resolve_target(server, api_key, os.environ), os.environ) as client:
            return await use(client)

    try:
        sys.exit(asyncio.run(main()))
    except KeyboardInterrupt:
        click.echo("\nstopped following; the run continues", err=True)
        sys.exit(130)


@click.command("run")
@click.argument("prompt", required=False)
@click.option("--file", "file", metavar="FILE", help="Read the prompt from a file; - is standard input.")
@click.option("--host", metavar="ID", help="Worker ID that the run must go to. Default: any.")
@click.option("--harness", metavar="NAME", help=f"One of {', '.join(HARNESSES)}.")
@click.option("--model", metavar="ID", help="The model for the harness.")
@click.option("--title", metavar="TEXT", help="Title in lists. Default: the prompt's first line.")
@click.option(
    "--safe-to-retry", is_flag=True, help="The run may start again from the beginning if its worker is lost."
)
@click.option("-f", "--follow", is_flag=True, help="Print the output as it comes, and wait for the end.")
@output_option
@target_options
def run(
    prompt: str | None,
    file: str | None,
    host: str | None,
    harness: str | None,
    model: str | None,
    title: str | None,
    safe_to_retry: bool,
    follow: bool,
    output: str,
    server: str | None,
    api_key: str | None,
) -> None:
    """Submit a run with PROMPT.

    With --follow the exit code is 0 if the run succeeded, else 1.

    \b
    Examples:
      oz-agent-worker run 'echo hello' --harness shell --follow
      oz-agent-worker run --file task.md --harness claude --host my-worker
    """
    text = _prompt(prompt, file)
    for name, given in (("--title", title), ("--host", host), ("--model", model), ("--harness", harness)):
        _unicode(given or "", name)
    chosen = {"worker_host": host, "model_id": model, "harness": {"type": harness} if harness else None}
    config = {name: value for name, value in chosen.items() if value is not None}

    async def use(client: ApiClient) -> int:
        created = await client.create_run(text, config, title, safe_to_retry=safe_to_retry)
        run_id = str(created["run_id"])
        if follow:
            click.echo(f"run {run_id} submitted", err=True)
            return await follow_run(client, run_id, output)
        if output == "json":
            echo_json(created)
        else:
            click.echo(f"run {run_id} submitted")
            click.echo(f"see it with: oz-agent-worker logs {run_id} --follow", err=True)
        return ExitCode.OK

    _with_client(server, api_key, use)


def _prompt(prompt: str | None, file: str | None) -> str:
    if (prompt is None) == (file is None):
        raise UsageError("give the prompt as one argument, or with --file FILE (- is standard input)")
    if prompt is not None and prompt != "-":
        text = _unicode(prompt, "the prompt")
    elif file in {None, "-"}:
        text = _utf8(sys.stdin.buffer.read(), "the prompt")
    else:
        text = read_prompt_file(str(file))
    if not text.strip():
        raise UsageError("the prompt is empty")
    return text


def read_prompt_file(path: str) -> str:
    """Read a prompt. Raises UsageError if the file cannot be read or is not UTF-8 text."""
    try:
        return _utf8(Path(path).read_bytes(), f"prompt file {path}")
    except OSError as error:
        raise UsageError(f"prompt file {path} cannot be read: {error.strerror}") from error


def _utf8(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{what} is not UTF-8 text: byte {error.start + 1} is wrong") from error


def _unicode(argument: str, what: str) -> str:
    """Refuse an argument with bytes that are not UTF-8 (PEP 383)."""
    return _utf8(os.fsencode(argument), what)


async def follow_run(client: ApiClient, run_id: str, output: str = "table") -> int:
    """Print a run's output until its end, then its final state; returns the exit code."""
    item = await stream_run(client, run_id, to_stderr=output == "json")
    echo_json(item) if output == "json" else click.echo(ending(item))
    return exit_code_of(item)


async def stream_run(client: ApiClient, run_id: str, *, to_stderr: bool = False) -> dict[str, Any]:
    """Print a run's output until its end, and return the run."""
    async for event in client.follow(run_id):
        click.echo(event.text, nl=False, err=to_stderr)
    return await client.get_run(run_id)


def ending(item: dict[str, Any]) -> str:
    """One line with the final state of a run, and why it did not succeed."""
    message = printable((item.get("status_message") or {}).get("message") or "")
    why = f": {message}" if message and item["state"] != "SUCCEEDED" else ""
    return f"run {item['run_id']} {state_text(item['state'])}{why}"


def exit_code_of(item: dict[str, Any]) -> int:
    """0 if a run succeeded, else 1."""
    return ExitCode.OK if item["state"] == "SUCCEEDED" else ExitCode.FAILURE


@click.command("runs")
@click.argument("run_id", required=False)
@click.option("--state", multiple=True, metavar="STATE", help="Only runs in this state; repeatable.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="Most runs to list.",
)
@click.option("-A", "--all", "everything", is_flag=True, help="List all runs.")
@output_option
@target_options
def runs(
    run_id: str | None,
    state: tuple[str, ...],
    limit: int,
    everything: bool,
    output: str,
    server: str | None,
    api_key: str | None,
) -> None:
    """List runs, the newest first; with RUN_ID show that one.

    HOST is the worker that runs or ran it; before that, the worker that the run names.

    \b
    Examples:
      oz-agent-worker runs --state inprogress --state queued
      oz-agent-worker runs --all --output json | jq -r '.[] | select(.state == "FAILED").run_id'
    """

    async def use(client: ApiClient) -> int:
        if run_id is not None:
            item = await client.get_run(run_id)
            echo_json(item) if output == "json" else click.echo(_describe(item))
            return ExitCode.OK
        found = await client.list_runs(
            limit=0 if everything else limit, states=tuple(s.upper() for s in state)
        )
        if output == "json":
            echo_json(found)
        elif found:
            click.echo(table(("ID", "STATE", "AGE", "HOST", "TITLE"), [_row(item) for item in found]))
        else:
            click.echo("no runs found", err=True)
        return ExitCode.OK

    _with_client(server, api_key, use)


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    named = (item.get("agent_config") or {}).get("worker_host")
    host = printable(item.get("worker_id") or named or "any")
    title = printable(str(item.get("title") or ""))
    return (
        item["run_id"],
        state_text(item["state"]),
        age(item.get("created_at")),
        host,
        title if len(title) <= 60 else title[:59] + "…",
    )


def _describe(item: dict[str, Any]) -> str:
    config = item.get("agent_config") or {}
    status = item.get("status_message") or {}
    fields = {
        "ID": item["run_id"],
        "State": item["state"],
        "Title": item.get("title"),
        "Message": status.get("message"),
        "Reason": status.get("error_code"),
        "Harness": (config.get("harness") or {}).get("type"),
        "Host": config.get("worker_host"),
        "Worker": item.get("worker_id"),
        "Retry": "safe" if item.get("safe_to_retry") else None,
        "Created": item.get("created_at"),
        "Started": item.get("started_at"),
        "Updated": item.get("updated_at"),
    }
    shown = {name: printable(str(value)) for name, value in fields.items() if value}
    shown["State"] = state_text(shown["State"])
    width = max(map(len, shown)) + 2
    lines = [f"{name + ':':<{width}}{value}" for name, value in shown.items()]
    prompt = "".join(f"\n  {line}" for line in str(item.get("prompt") or "").splitlines()[:40])
    # Other control characters could steer the terminal.
    prompt = "".join(c if c.isprintable() or c in "\t\n" else " " for c in prompt)
    return "\n".join(lines) + f"\nPrompt:{prompt}"


@click.command("logs")
@click.argument("run_id")
@click.option("-f", "--follow", is_flag=True, help="Follow the output until the run ends.")
@output_option
@target_options
def logs(run_id: str, follow: bool, output: str, server: str | None, api_key: str | None) -> None:
    """Print a run's output.

    With --follow the exit code is 0 if the run succeeded, else 1. As JSON it is one object with
    the run's state and text; with --follow one object per line, the last with the state.

    \b
    Examples:
      oz-agent-worker logs RUN_ID --follow
      oz-agent-worker logs RUN_ID --output json | jq -r .text
    """

    async def use(client: ApiClient) -> int:
        if follow:
            return await (_follow_as_json if output == "json" else follow_run)(client, run_id)
        if output == "json":
            state = (await client.get_run(run_id))["state"]
            echo_json({"run_id": run_id, "state": state, "text": await client.log(run_id)})
        else:
            click.echo(await client.log(run_id), nl=False)
        return ExitCode.OK

    _with_client(server, api_key, use)


async def _follow_as_json(client: ApiClient, run_id: str) -> int:
    async for event in client.follow(run_id):
        if event.text:
            echo_json_line({"run_id": run_id, "text": event.text})
    item = await client.get_run(run_id)
    echo_json_line({"run_id": run_id, "state": item["state"]})
    return exit_code_of(item)


@click.command("cancel")
@click.argument("run_ids", metavar="RUN_ID...", nargs=-1, required=True)
@click.option("--wait", is_flag=True, help="Wait until the runs have ended.")
@output_option
@target_options
def cancel(
    run_ids: tuple[str, ...], wait: bool, output: str, server: str | None, api_key: str | None
) -> None:
    """Cancel runs.

    A run that cannot be cancelled does not stop the others; the exit code is then 1.

    \b
    Examples:
      oz-agent-worker cancel RUN_ID --wait
      oz-agent-worker runs --all --state queued -o json | jq -r '.[].run_id' | xargs oz-agent-worker cancel
    """

    async def use(client: ApiClient) -> int:
        results = []
        for run_id in run_ids:
            results.append(await _cancel_one(client, run_id, wait=wait))
            if output == "table":
                line, failed = _cancelled(results[-1], wait=wait), results[-1]["error"] is not None
                click.echo(line, err=failed)
                if results[-1]["message"]:
                    click.echo(results[-1]["message"], err=True)
        if output == "json":
            echo_json(results)
        return ExitCode.FAILURE if any(result["error"] for result in results) else ExitCode.OK

    _with_client(server, api_key, use)


async def _cancel_one(client: ApiClient, run_id: str, *, wait: bool) -> dict[str, str | None]:
    """Cancel one run; returns its ID, its state, what the control plane says of it, and what went wrong.

    Whether the task has stopped is in the message alone: a public worker does not confirm it.
    """
    done = ""
    try:
        await client.cancel_run(run_id)
        done = "it was cancelled, and then: "
        if wait:
            async for event in client.follow(run_id):
                if event.state in TERMINAL_STATES:
                    break
        item = await client.get_run(run_id)
        message = printable((item.get("status_message") or {}).get("message") or "") or None
        return {"run_id": run_id, "state": str(item["state"]), "message": message, "error": None}
    except OzError as error:
        return {"run_id": run_id, "state": None, "message": None, "error": f"{done}{error}"}


def _cancelled(result: Mapping[str, str | None], *, wait: bool) -> str:
    run_id, state, error = result["run_id"], result["state"], result["error"]
    if error is not None:
        return f"run {run_id}: {error}"
    asked = f"ended {state}" if wait else "cancellation requested"
    return f"run {run_id} {'cancelled' if state == 'CANCELLED' else asked}"

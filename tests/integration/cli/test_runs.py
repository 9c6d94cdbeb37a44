"""The user's commands, typed as a newcomer would: real processes, the direct backend."""

import json
import signal
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.programs import BIN, Program, environment, oz, program
from tests.timeouts import HANG_TIMEOUT

EXAMPLE = Path(__file__).parents[3] / "examples" / "hello.sh"


@contextmanager
def running_dev(env: dict[str, str]) -> Iterator[Program]:
    with program([str(BIN / "oz-agent-worker"), "dev"], env) as running:
        running.wait_for("Ctrl-C stops everything.")
        running.wait_for("Listening for tasks")
        yield running


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def env(state: Path) -> dict[str, str]:
    return environment(state)


@pytest.fixture(scope="module")
def dev(env: dict[str, str]) -> Iterator[Program]:
    """One for all tests that only talk to it."""
    with running_dev(env) as running:
        yield running


def test_one_task_from_submitted_to_succeeded(env: dict[str, str]) -> None:
    done = oz("dev", "--run-file", str(EXAMPLE), env=env)
    *output, ending = done.stdout.splitlines()
    assert ending.startswith("run ")
    assert ending.endswith(" SUCCEEDED")
    run_id = ending.split()[1]
    assert output[1] == f"Hello from run {run_id}, on the direct backend."
    assert output[-1] == "done"
    assert "submitted" in done.stderr


def test_a_run_that_fails_gives_the_exit_code_1_and_its_reason(env: dict[str, str]) -> None:
    done = oz("dev", "--run", "exit 9", env=env, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith(" FAILED: The agent ended with exit code 9")


def test_a_second_terminal_needs_neither_url_nor_key(tmp_path: Path) -> None:
    env = environment(tmp_path)
    note = tmp_path / "oz-agent-worker" / "dev.json"
    with running_dev(env) as dev:
        done = oz("run", "echo out; echo err >&2", "--follow", env=env)
        assert {"out", "err"} <= set(done.stdout.splitlines())
        assert done.stdout.splitlines()[-1].endswith(" SUCCEEDED")
        assert stat.S_IMODE(note.stat().st_mode) == 0o600
        dev.process.send_signal(signal.SIGINT)
        dev.wait_for("control plane stopped")
        dev.process.wait(HANG_TIMEOUT)
        assert dev.process.returncode == 0
    assert not note.exists()
    assert "no control plane is given" in oz("runs", env=env, check=False).stderr


def test_runs_are_listed_shown_logged_and_cancelled(dev: Program, env: dict[str, str]) -> None:
    submitted = oz("run", "echo started; sleep 600", "--title", "a long one", "--host", "dev", env=env)
    run_id = submitted.stdout.split()[1]
    followed = program([str(BIN / "oz-agent-worker"), "logs", run_id, "-f"], env)
    with followed as following:
        following.wait_for("started")
        listed = oz("runs", env=env).stdout.splitlines()
        assert listed[0].split() == ["ID", "STATE", "AGE", "HOST", "TITLE"]
        assert listed[1].split()[0] == run_id
        assert listed[1].endswith("dev    a long one")
        done = oz("cancel", run_id, "--wait", env=env)
        assert done.stdout == f"run {run_id} cancelled\n"
        assert '"; worker dev stopped it.' in done.stderr
        following.wait_for(f"run {run_id} CANCELLED")
        following.process.wait(HANG_TIMEOUT)
        assert following.process.returncode == 1
    shown = oz("runs", run_id, env=env).stdout
    assert "State:" in shown
    assert "CANCELLED" in shown
    item = json.loads(oz("runs", run_id, "-o", "json", env=env).stdout)
    assert item["state"] == "CANCELLED"
    assert item["agent_config"]["worker_host"] == "dev"
    again = oz("cancel", run_id, env=env, check=False)
    assert again.returncode == 1
    assert "has ended" in again.stderr
    assert run_id not in oz("runs", "--state", "SUCCEEDED", env=env).stdout


def test_logs_and_cancellations_are_json_for_programs(dev: Program, env: dict[str, str]) -> None:
    first, second = (
        oz("run", f"echo hällo {name}; sleep 600", env=env).stdout.split()[1] for name in ("a", "b")
    )
    following = program([str(BIN / "oz-agent-worker"), "logs", first, "-f", "-o", "json"], env)
    with following as followed:
        followed.wait_for("hällo a\\n")
        followed.process.send_signal(signal.SIGINT)
        followed.process.wait(HANG_TIMEOUT)
    lines_as_json = [json.loads(line) for line in followed.lines if line.startswith("{")]
    assert {item["run_id"] for item in lines_as_json} == {first}
    # How the text is cut into lines depends on what was there at each look.
    assert "".join(item["text"] for item in lines_as_json).endswith("\nhällo a\n")
    done = oz("cancel", first, "no-such-run", second, "--wait", "-o", "json", env=env, check=False)
    assert done.returncode == 1
    cancelled = json.loads(done.stdout)
    assert [(item["run_id"], item["state"]) for item in cancelled] == [
        (first, "CANCELLED"), ("no-such-run", None), (second, "CANCELLED"),
    ]  # fmt: skip
    assert "no run" in cancelled[1]["error"]
    assert cancelled[0]["message"].endswith("worker dev stopped it.")
    assert cancelled[1]["message"] is None
    log = json.loads(oz("logs", first, "-o", "json", env=env).stdout)
    assert (log["run_id"], log["state"]) == (first, "CANCELLED")
    assert "\nhällo a\n" in log["text"]
    ended = oz("logs", first, "-f", "-o", "json", env=env, check=False)
    assert ended.returncode == 1
    assert json.loads(ended.stdout.splitlines()[-1]) == {"run_id": first, "state": "CANCELLED"}


def test_a_prompt_of_one_mebibyte_arrives_whole(dev: Program, env: dict[str, str], tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.sh"
    prompt.write_text(f"cat <<'END' | wc -c\n{'x' * (1024 * 1024 - 1)}\nEND\n")
    done = oz("run", "--file", str(prompt), "--follow", env=env)
    assert "1048576" in done.stdout.split()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("logs", "no-such-run"), 1, "no run"),
        (("run",), 2, "give the prompt"),
        (("run", "  "), 2, "the prompt is empty"),
        (("run", "--file", "/no/such/file"), 2, "/no/such/file cannot be read"),
        (("runs", "--limit", "0"), 2, "--limit"),
        (("rnus",), 2, "No such command 'rnus'"),
        (
            ("runs", "--server", "http://127.0.0.1:9", "--api-key", "k"),
            1,
            "http://127.0.0.1:9 cannot be reached",
        ),
    ],
)
def test_wrong_usage_says_what_is_wrong(
    dev: Program, env: dict[str, str], arguments: tuple[str, ...], code: int, text: str
) -> None:
    done = oz(*arguments, env=env, check=False)
    assert done.returncode == code, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_key_is_reported(dev: Program, env: dict[str, str], state: Path) -> None:
    note = json.loads((state / "oz-agent-worker" / "dev.json").read_text())
    done = oz("runs", "--server", note["url"], "--api-key", "ozk_wrong", env=env, check=False)
    assert done.returncode == 4
    assert "refused the API key" in done.stderr
    assert "ozk_wrong" not in done.stderr


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    env = environment(tmp_path)
    made = oz("control-plane", "create-key", "alice", env=env)
    key = made.stdout.strip()
    listed = json.loads(oz("control-plane", "keys", "-o", "json", env=env).stdout)
    assert [item["name"] for item in listed] == ["alice"]
    assert key not in json.dumps(listed)
    revoked = oz("control-plane", "revoke-key", listed[0]["id"], env=env)
    assert "revoked" in revoked.stdout
    assert oz("control-plane", "revoke-key", listed[0]["id"], env=env, check=False).returncode == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(env: dict[str, str], shell: str) -> None:
    script = oz("completion", shell, env=env).stdout
    assert "_OZ_AGENT_WORKER_COMPLETE" in script


def test_completion_completes(env: dict[str, str]) -> None:
    asked = {
        **env,
        "_OZ_AGENT_WORKER_COMPLETE": "bash_complete",
        "COMP_WORDS": "oz-agent-worker ru",
        "COMP_CWORD": "1",
    }
    assert oz(env=asked).stdout.split() == ["plain,run", "plain,runs"]


def test_render_needs_neither_a_key_nor_a_cluster(env: dict[str, str], tmp_path: Path) -> None:
    examples = EXAMPLE.parent
    arguments = (
        "--config-file",
        str(examples / "worker.yaml"),
        "--assignment",
        str(examples / "assignment.json"),
    )
    once = oz("render", *arguments, "-e", "EXTRA=1", env=env).stdout
    assert once == oz("render", *arguments, "-e", "EXTRA=1", env=env).stdout
    job = json.loads(oz("render", *arguments, "-e", "EXTRA=1", "-o", "json", env=env).stdout)
    task = job["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "EXTRA", "value": "1"} in task["env"]
    data = tmp_path / "data.json"
    data.write_text(json.dumps(json.loads((examples / "assignment.json").read_text())["data"]))
    bare = oz(
        "render", "--config-file", arguments[1], "--assignment", str(data), "-e", "EXTRA=1", env=env
    ).stdout
    assert bare == once


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        ("{", "assignment.json"),
        ('{"task_id": "a"}', "`task` is missing"),
        ('{"task": {}}', "`task_id` is missing"),
        ('{"type": "task_cancellation", "data": {"task_id": "a"}}', "task_cancellation"),
        ('{"task_id": "a", "task": {"id": 3}}', "$.task.id"),
    ],
)
def test_render_says_what_is_wrong_with_an_assignment(
    env: dict[str, str], tmp_path: Path, assignment: str, text: str
) -> None:
    path = tmp_path / "assignment.json"
    path.write_text(assignment)
    done = oz("render", "--assignment", str(path), env=env, check=False)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert "Traceback" not in done.stderr

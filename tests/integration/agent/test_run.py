"""A run from the fetch to the harness's exit code."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.timeouts import HANG_TIMEOUT

from .conftest import StartAgent
from .control_plane import RUN_ID, TOKEN, Answer, ControlPlane, serving

LONG_PROMPT = "".join(f"# line {n}\n" for n in range(100_000))  # above 1 MiB


def test_a_script_runs_and_its_output_is_its_own(
    start_agent: StartAgent, control_plane: ControlPlane
) -> None:
    control_plane.offer("echo out; echo err >&2; pwd; cat; printf '\\377\\000partial'")
    agent = start_agent()
    out, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert agent.returncode == 0
    assert out.startswith(b"out\n")
    assert out.endswith(b"/workspace\n\xff\x00partial")
    assert err.decode() == f'oz-agent: run {RUN_ID} "A "title"" · harness shell\nerr\n'
    assert control_plane.requests == [(f"/api/v1/agent/runs/{RUN_ID}", f"Bearer {TOKEN}")]


def test_quiet(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer("true")
    assert start_agent("--new-flag", OZ_AGENT_QUIET="1").communicate(timeout=HANG_TIMEOUT) == (b"", b"")


def test_the_exit_code_is_the_harness_s(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer("exit 42")
    agent = start_agent()
    agent.communicate(timeout=HANG_TIMEOUT)
    assert agent.returncode == 42


def test_the_first_line_of_a_script_is_honoured(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer("#!/usr/bin/env -S python3 -I\nimport sys\nprint(sys.flags.isolated)\n")
    assert start_agent().communicate(timeout=HANG_TIMEOUT)[0] == b"1\n"


def test_the_environment_of_the_harness(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer('echo "$WARP_API_KEY $WARP_SERVER_ROOT_URL $OZ_RUN_ID $MINE"')
    out, _ = start_agent(MINE="mine").communicate(timeout=HANG_TIMEOUT)
    assert out.decode() == f"{TOKEN} {control_plane.url} {RUN_ID} mine\n"


def test_the_environment_can_replace_the_arguments(control_plane: ControlPlane, tmp_path: Path) -> None:
    control_plane.offer("pwd")
    environment = {
        "PATH": os.environ["PATH"],
        "WARP_API_KEY": TOKEN,
        "WARP_SERVER_ROOT_URL": control_plane.url,
        "TASK_ID": RUN_ID,
        "OZ_WORKSPACE_ROOT": str(tmp_path),
    }
    script = Path(sys.executable).parent / "oz-agent"
    agent = subprocess.run(
        [script, "agent", "run"], cwd="/", env=environment, capture_output=True, timeout=HANG_TIMEOUT
    )
    assert (agent.returncode, agent.stdout.decode()) == (0, f"{tmp_path}\n")


def test_arguments_of_a_later_worker_are_named_and_ignored(
    start_agent: StartAgent, control_plane: ControlPlane
) -> None:
    control_plane.offer("echo fine")
    agent = start_agent("--future", "hush", "--skill", "s", "--idle-on-complete", "45m")
    out, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert (agent.returncode, out) == (0, b"fine\n")
    assert "ignored, unknown: --future\n" in err.decode()
    assert "not offered by this runtime: --skill\n" in err.decode()
    assert "hush" not in err.decode()


def test_a_script_of_1_mib(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer(LONG_PROMPT + 'wc -c <"$0"')
    agent = start_agent()
    out, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert agent.returncode == 0, err
    assert int(out) == len(LONG_PROMPT) + len('wc -c <"$0"\n')


def test_a_cancelled_run_is_not_started(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    control_plane.offer("echo no", state="CANCELLED")
    agent = start_agent()
    out, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert (agent.returncode, out) == (125, b"")
    assert "cancelled" in err.decode()


@pytest.mark.parametrize(
    ("prompt", "harness", "variables", "code", "text"),
    [
        ("  ", "", {}, 125, "no prompt"),
        ("x", "nope", {}, 2, "unknown harness 'nope'; there are: shell, claude"),
        ("x", "command", {}, 2, "needs OZ_AGENT_COMMAND"),
        (
            "x",
            "command",
            {"OZ_AGENT_COMMAND": "no-such-program"},
            127,
            "'no-such-program' was not found on PATH",
        ),
        ("x", "claude", {"PATH": "/nowhere"}, 127, "npm install -g @anthropic-ai/claude-code"),
        ("#!/no/such/shell\n", "", {}, 127, "'/no/such/shell' was not found"),
        ("#!/etc/passwd\n", "", {}, 126, "/etc/passwd is not executable"),
        ("x", "", {"OZ_AGENT_GRACE_SECONDS": "x"}, 2, "OZ_AGENT_GRACE_SECONDS"),
        ("x", "", {"WARP_API_KEY": ""}, 125, "WARP_API_KEY is not set"),
        (
            "x" * 120_000,
            "command",
            {"OZ_AGENT_COMMAND": "true " + "{prompt} " * 100},
            126,
            "the arguments and the environment are too large together",
        ),
        ("x", "", {"TMPDIR": "/no/such"}, 0, ""),
    ],
)
def test_errors_are_one_line(
    start_agent: StartAgent,
    control_plane: ControlPlane,
    prompt: str,
    harness: str,
    variables: dict[str, str],
    code: int,
    text: str,
) -> None:
    control_plane.offer(prompt if code else "true", harness=harness)
    agent = start_agent(**variables)
    _, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert agent.returncode == code
    lines = [line for line in err.decode().splitlines() if not line.startswith("oz-agent: run ")]
    assert len(lines) == (1 if code else 0), lines
    assert text in "".join(lines)


@pytest.mark.parametrize(
    ("status", "text"), [(401, "refused this run's token"), (403, "refused"), (404, "knows no run")]
)
def test_a_refusal_is_final(
    start_agent: StartAgent, control_plane: ControlPlane, status: int, text: str
) -> None:
    problem = b'{"type": "about:blank", "title": "No", "detail": "bad key %s"}' % TOKEN.encode()
    control_plane.answers = [Answer(status, problem, {"Content-Type": "application/problem+json"})]
    agent = start_agent()
    out, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert (agent.returncode, out) == (125, b"")
    assert text in err.decode()
    assert f"(HTTP {status}: bad key ***)" in err.decode()
    assert err.count(b"\n") == 1
    assert len(control_plane.requests) == 1


def test_a_control_plane_that_is_not_ready_is_retried(
    start_agent: StartAgent, control_plane: ControlPlane
) -> None:
    control_plane.offer("echo fine", Answer(503), Answer(429, headers={"Retry-After": "0"}))
    agent = start_agent()
    out, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert (agent.returncode, out) == (0, b"fine\n")
    assert err.count(b"trying again") == 2
    assert len(control_plane.requests) == 3


def test_the_token_is_not_sent_to_a_redirect(start_agent: StartAgent, control_plane: ControlPlane) -> None:
    with serving() as elsewhere:
        elsewhere.offer("echo stolen")
        control_plane.answers = [Answer(302, headers={"Location": f"{elsewhere.url}/api"})]
        agent = start_agent()
        _, err = agent.communicate(timeout=HANG_TIMEOUT)
        assert agent.returncode == 125
        assert "redirects" in err.decode()
        assert elsewhere.requests == []


def test_an_unreachable_control_plane(start_agent: StartAgent) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and never listening
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        agent = start_agent("--server-root-url", url, OZ_AGENT_FETCH_SECONDS="0.5")
        _, err = agent.communicate(timeout=HANG_TIMEOUT)
    assert agent.returncode == 125
    last = err.decode().splitlines()[-1]
    assert last.startswith(f"oz-agent: error: {url.removeprefix('http://')} is not reachable")
    assert "attempts in" in last

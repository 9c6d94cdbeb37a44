"""The Pod's shell scripts, run for real: under dash, bash and BusyBox."""

import os
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.kubernetes.manifest.scripts import (
    AGENT_ENTRYPOINT,
    COPY_ROOT_FILESYSTEM,
    task_script,
)
from tests.cluster.packages import shells
from tests.timeouts import HANG_TIMEOUT


class Userland:
    """A shell and the programs that it finds on its PATH."""

    def __init__(self, shell: list[str], path: str) -> None:
        self.shell = shell
        self.path = path

    def start(self, script: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a script as the kubelet does: ``sh -c SCRIPT ARGUMENT…``."""
        return subprocess.Popen(
            [*self.shell, "-c", script, *arguments],
            env={"PATH": self.path, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a script to its end."""
        process = self.start(script, *arguments, **environment)
        out, err = process.communicate(timeout=HANG_TIMEOUT)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="session")
def programs() -> dict[str, Path]:
    """The shells of this machine, and from Debian's packages what it lacks."""
    return {"sh": Path("/bin/sh"), **shells()}


@pytest.fixture(params=["sh", "dash", "bash", "busybox"])
def userland(request: pytest.FixtureRequest, programs: dict[str, Path], tmp_path: Path) -> Userland:
    program = str(programs[request.param])
    if request.param != "busybox":
        return Userland([program], os.environ["PATH"])
    applets = tmp_path / "busybox-applets"
    applets.mkdir()
    subprocess.run([program, "--install", "-s", str(applets)], check=True)
    return Userland([program, "sh"], str(applets))


# ---------------------------------------------------------------------------- the copy


def image_root(tmp_path: Path) -> Path:
    """A small image with everything that is awkward to copy."""
    root = tmp_path / "image"
    for folder in ("bin", "proc/1", "sys/kernel", "dev/pts", "target", "etc/empty", "tmp", "usr/dev",
                   "run/lock", "run/secrets/kubernetes.io", "var/run/secrets/token", "var/run/app",
                   "var/lib", "a folder/with spaces", "-dash", "proc sys"):  # fmt: skip
        (root / folder).mkdir(parents=True)
    files = {
        "bin/tool": "tool", "proc/1/cmdline": "p", "sys/kernel/x": "s", "dev/pts/0": "d", ".dockerenv": "",
        "run/secrets/kubernetes.io/token": "SECRET", "var/run/secrets/token/t": "SECRET", "run/lock/l": "l",
        "var/run/app/pid": "1", "var/lib/state": "v", "a folder/with spaces/fi le": "spaces",
        "-dash/file": "dash", "proc sys/file": "kept", "entrypoint.sh": "#!/bin/sh\n", ".hidden": "h",
        "..twice": "t", "usr/dev/kept": "k",
    }  # fmt: skip
    for name, text in files.items():
        (root / name).write_text(text)
    (root / "bin/tool").chmod(0o4755)
    (root / "entrypoint.sh").chmod(0o755)
    (root / "tmp").chmod(0o1777)
    (root / "run").chmod(0o750)
    (root / "etc/empty").chmod(0o700)
    (root / "bin/alias").symlink_to("tool")
    (root / "dangling").symlink_to("/no/such/file")
    (root / "lib").symlink_to("usr")
    (root / "bin/twin").hardlink_to(root / "bin/tool")
    if os.geteuid() == 0:
        os.chown(root / "var/lib/state", 1234, 5678)
    return root


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


EXCLUDED = ("proc/", "sys/", "dev/", "target/", "run/secrets/", "var/run/secrets/")


def expected_names(root: Path) -> set[str]:
    """The image's own processes, found in another way than the script does."""
    return {n for n in names(root) if n != ".dockerenv" and not (n + "/").startswith(EXCLUDED)}


def copy(userland: Userland, root: Path, target: Path) -> None:
    done = userland.run(COPY_ROOT_FILESYSTEM, "copy-sidecar", str(root), str(target))
    assert (done.returncode, done.stderr) == (0, "")


def test_the_copy_holds_the_images_own_files_alone(userland: Userland, tmp_path: Path) -> None:
    root = image_root(tmp_path)
    expected = expected_names(root)
    copy(userland, root, root / "target")
    assert names(root / "target") == expected


def test_the_copy_keeps_modes_owners_links_and_contents(userland: Userland, tmp_path: Path) -> None:
    root, target = image_root(tmp_path), tmp_path / "target"
    target.mkdir()
    copy(userland, root, target)
    for name in expected_names(root):
        original, copied = root / name, target / name
        was, became = original.lstat(), copied.lstat()
        assert stat.filemode(became.st_mode) == stat.filemode(was.st_mode), name
        assert (became.st_uid, became.st_gid) == (was.st_uid, was.st_gid), name
        if original.is_symlink():
            assert copied.readlink() == original.readlink()
        elif original.is_file():
            assert copied.read_bytes() == original.read_bytes()
    assert (target / "bin/tool").samefile(target / "bin/twin")


def test_the_copy_can_be_repeated(userland: Userland, tmp_path: Path) -> None:
    root, target = image_root(tmp_path), tmp_path / "target"
    target.mkdir()
    copy(userland, root, target)
    before = names(target)
    copy(userland, root, target)
    assert names(target) == before


def test_links_in_the_place_of_run_are_copied_as_links(userland: Userland, tmp_path: Path) -> None:
    root, target = tmp_path / "image", tmp_path / "target"
    (root / "run/secrets").mkdir(parents=True)
    (root / "run/secrets/token").write_text("SECRET")
    (root / "var").mkdir()
    (root / "var/run").symlink_to("/run")
    target.mkdir()
    copy(userland, root, target)
    assert names(target) == {"run", "var", "var/run"}
    assert (target / "var/run").readlink() == Path("/run")


def test_an_image_without_run_and_var_is_copied(userland: Userland, tmp_path: Path) -> None:
    root, target = tmp_path / "image", tmp_path / "target"
    root.mkdir()
    (root / "entrypoint.sh").write_text("x")
    target.mkdir()
    copy(userland, root, target)
    assert names(target) == {"entrypoint.sh"}


def test_a_copy_that_fails_says_so(userland: Userland, tmp_path: Path) -> None:
    root, target = image_root(tmp_path), tmp_path / "target"
    target.write_text("a file, not a folder")
    done = userland.run(COPY_ROOT_FILESYSTEM, "copy-sidecar", str(root), str(target))
    assert done.returncode != 0
    assert done.stderr


# ---------------------------------------------------------------------------- the task


class Task:
    """The container ``task`` with an agent of the test's own."""

    def __init__(self, userland: Userland, folder: Path) -> None:
        self._userland = userland
        self._agent = folder / "entrypoint.sh"
        self.environment_file = folder / ".oz-env"

    def start(
        self, agent: str, *arguments: str, teardown: str | None = None, **environment: str
    ) -> subprocess.Popen[str]:
        self._agent.write_text(f"#!/bin/sh\n{agent}\n")
        self._agent.chmod(0o755)
        script = task_script(teardown).replace(AGENT_ENTRYPOINT, str(self._agent))
        environment["OZ_ENVIRONMENT_FILE"] = str(self.environment_file)
        return self._userland.start(script, "oz-task", *arguments, **environment)

    def run(
        self, agent: str, *arguments: str, teardown: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        process = self.start(agent, *arguments, teardown=teardown, **environment)
        out, err = process.communicate(timeout=HANG_TIMEOUT)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def task(userland: Userland, tmp_path: Path) -> Task:
    return Task(userland, tmp_path)


TEARDOWNS = pytest.mark.parametrize("teardown", [None, "echo torn down"])


@TEARDOWNS
def test_the_agent_gets_its_arguments_as_they_are(task: Task, teardown: str | None) -> None:
    arguments = ["agent", "run", "--prompt", "two words", "", "$HOME `id` \"q\" 'r'", "line\nline", "-x"]
    done = task.run('for a in "$@"; do printf "<%s>" "$a"; done', *arguments, teardown=teardown)
    assert done.stdout.startswith("".join(f"<{a}>" for a in arguments))
    assert (done.returncode, done.stderr) == (0, "")


@TEARDOWNS
@pytest.mark.parametrize("code", [0, 1, 42, 127, 255])
def test_the_agents_exit_code_is_the_containers(task: Task, teardown: str | None, code: int) -> None:
    assert task.run(f"exit {code}", teardown=teardown).returncode == code


@TEARDOWNS
def test_the_setup_scripts_variables_reach_the_agent(task: Task, teardown: str | None) -> None:
    task.environment_file.write_text("PLAIN=one\nQUOTED='two words'\nexport EXPORTED=three\nOVER=new\n")
    done = task.run('echo "$PLAIN|$QUOTED|$EXPORTED|$OVER"', teardown=teardown, OVER="old")
    assert done.stdout.splitlines()[0] == "one|two words|three|new"


@TEARDOWNS
@pytest.mark.parametrize(
    "lines",
    [
        "D: yaml\n",
        "B='hidden\n",
        "B=(1 2)\n",
        "export B-C=2\n",
        "B=1 2\n",
        "}\n",
        ". /nowhere\n",
    ],
)
def test_a_line_that_is_no_shell_code_does_not_end_the_task(
    task: Task, teardown: str | None, lines: str
) -> None:
    task.environment_file.write_text(f"A=before\n{lines}")
    done = task.run('echo "agent has $A"; exit 4', teardown=teardown)
    assert (done.stdout.splitlines()[0], done.returncode) == ("agent has before", 4)


def test_what_bash_prints_of_its_environment_reaches_the_agent(task: Task) -> None:
    lines = [
        'declare -x A="b \\"c\\" \\$d"',
        "declare -x OLDPWD",
        'declare -- UNEXPORTED="x"',
        'declare -x E="f\ng"',
    ]
    task.environment_file.write_text("\n".join(lines) + "\n")
    done = task.run('echo "$A|$E"')
    assert (done.stdout, done.stderr) == ('b "c" $d|f\ng\n', "")


def test_the_scripts_own_variables_do_not_reach_the_agent(task: Task) -> None:
    done = task.run("env", teardown="true", code="mine", early="mine", signalled="mine")
    variables = set(done.stdout.splitlines())
    assert {"code=mine", "early=mine", "signalled=mine"} <= variables
    assert not any(v.startswith("oz_") for v in variables)


@pytest.mark.parametrize("code", [0, 3])
def test_the_teardown_runs_once_after_the_agent(task: Task, code: int) -> None:
    done = task.run(f"echo working; exit {code}", teardown="echo torn down")
    assert done.stdout == "working\ntorn down\n"
    assert done.returncode == code


def test_a_teardown_of_several_lines_with_quotes_runs_as_it_is(task: Task) -> None:
    task.environment_file.write_text("FROM_SETUP=yes\n")
    done = task.run("true", teardown="set -e\necho \"it's $FROM_SETUP\"\necho 'a  b'\n")
    assert done.stdout == "it's yes\na  b\n"


def test_a_failed_teardown_is_logged_and_changes_nothing(task: Task) -> None:
    done = task.run("exit 5", teardown="exit 9")
    assert done.returncode == 5
    assert done.stderr == "oz-task: the teardown command ended with exit code 9\n"


def test_a_teardown_that_is_no_shell_code_changes_nothing(task: Task) -> None:
    assert task.run("exit 5", teardown="if then 'unfinished").returncode == 5


def test_an_agent_that_a_signal_ends_has_128_plus_its_number(task: Task) -> None:
    assert task.run("kill -KILL $$", teardown="true").returncode == 128 + signal.SIGKILL


def test_an_agent_that_is_missing_is_127(userland: Userland, tmp_path: Path) -> None:
    script = task_script("echo torn down").replace(AGENT_ENTRYPOINT, str(tmp_path / "missing.sh"))
    done = userland.run(script, "oz-task", "agent", "run", OZ_ENVIRONMENT_FILE="/nowhere")
    assert (done.returncode, done.stdout) == (127, "torn down\n")


GRACEFUL = "trap 'echo stopping; exit 7' TERM; echo ready; while :; do sleep 0.05; done"


@TEARDOWNS
def test_sigterm_reaches_the_agent_and_its_exit_code_stays(task: Task, teardown: str | None) -> None:
    process = task.start(GRACEFUL, teardown=teardown)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANG_TIMEOUT)
    assert out == ("stopping\ntorn down\n" if teardown else "stopping\n")
    assert process.returncode == 7


@pytest.mark.parametrize("stop_signal", [signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_any_stop_signal_of_an_image_ends_the_agent(task: Task, stop_signal: signal.Signals) -> None:
    process = task.start(GRACEFUL, teardown="echo torn down")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(stop_signal)
    out, _ = process.communicate(timeout=HANG_TIMEOUT)
    assert out == "stopping\ntorn down\n"
    assert process.returncode == 7


def test_an_agent_that_sigterm_kills_is_143(task: Task) -> None:
    process = task.start("echo ready; exec sleep 60", teardown="echo torn down")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANG_TIMEOUT)
    assert out == "torn down\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_an_agent_that_outlives_sigterm_is_waited_for(task: Task) -> None:
    agent = (
        "trap 'echo heard' TERM; echo ready; n=0; while [ $n -lt 4 ]; do sleep 0.05; n=$((n+1)); done; exit 4"
    )
    process = task.start(agent, teardown="echo torn down")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=HANG_TIMEOUT)
    assert out == "heard\ntorn down\n"
    assert process.returncode == 4


def test_sigterm_during_the_teardown_does_not_repeat_or_cut_it(task: Task, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    teardown = 'echo tearing; read line < "$GATE"; echo torn down'
    process = task.start("exit 6", teardown=teardown, GATE=str(gate))
    assert process.stdout is not None
    assert process.stdout.readline() == "tearing\n"
    process.send_signal(signal.SIGTERM)
    gate.write_text("go\n")
    out, _ = process.communicate(timeout=HANG_TIMEOUT)
    assert out == "torn down\n"
    assert process.returncode == 6

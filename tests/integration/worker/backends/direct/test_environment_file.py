"""The environment file as real shells write it: what they print is read back as the same environment."""

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.direct.environment_file import read_environment_file
from tests.cluster.packages import shells
from tests.timeouts import HANG_TIMEOUT

MARK: Final = "OZ_EXECUTION_MARK"
#: What the setup command was given: values that look like entries of other forms too.
BEFORE: Final = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/home/w",
    MARK: "0123456789abcdef",
    "GIVEN_QUOTES": "'a' \"b\" $HOME # c",
    "GIVEN_LINES": "-----BEGIN KEY\nMIIEabc==\nA=1\nexport B=2\n\n-----END KEY\n",
}
NAMES: Final = st.sampled_from(["A", "B", "c_1", "_D", "LONG_NAME", "GIVEN_QUOTES", "GIVEN_LINES"])
AWKWARD: Final = st.sampled_from(
    ["'", '"', "$", "`", "\\", "#", " ", "\t", "=", ":", ";", "!", "$HOME", "${A}", "$(id)", "\\n", "\\$",
     "a", "é", "😀", "\x01", "\x1b", "\x7f", "\r", "EOF", "}", "() {", "export ", "declare -x Z="]
)  # fmt: skip
#: Text in one line: bytes that are not UTF-8 as surrogates (PEP 383).
LINE: Final = st.one_of(
    st.lists(AWKWARD, max_size=8).map("".join),
    st.binary(max_size=12).map(lambda b: os.fsdecode(b.replace(b"\0", b"").replace(b"\n", b""))),
)
LINES: Final = st.lists(LINE, min_size=1, max_size=4).map("\n".join)
VALUES: Final = st.dictionaries(NAMES, LINES, max_size=4)
#: What ``env`` prints of a value with a line ``A=b`` is the same as of two variables.
VALUES_OF_ENV: Final = st.dictionaries(NAMES, LINE, max_size=4)
#: The shells' own variables, which they set in each child.
OF_SHELLS: Final = {"PWD", "OLDPWD", "SHLVL", "_"}


def environment_after(shell: list[str], printing: str, variables: Mapping[str, str], path: Path) -> None:
    """Set variables in a shell that has the environment ``BEFORE``, and print its environment to a file."""
    # The values come by a file descriptor's path each: no quoting of the test's own is between.
    script = "".join(
        f'{name}=$(cat "{path}.{n}"; echo .); {name}=${{{name}%.}}; export {name}\n'
        for n, name in enumerate(variables)
    )
    for n, value in enumerate(variables.values()):
        Path(f"{path}.{n}").write_bytes(os.fsencode(value))
    subprocess.run(
        [*shell, "-c", f'{script}{printing} > "{path}"'],
        env=dict(BEFORE),
        stdin=subprocess.DEVNULL,
        check=True,
        timeout=HANG_TIMEOUT,
    )


def read(path: Path) -> dict[str, str]:
    file = read_environment_file(path, before=BEFORE, own={}, mark=MARK)
    assert [str(note) for note in file.notes if "of the shell" not in note.what] == []
    found = {name: secret.reveal() for name, secret in file.variables.items()}
    return {name: value for name, value in found.items() if name not in OF_SHELLS}


@pytest.fixture(scope="module")
def programs() -> dict[str, list[str]]:
    """How each shell is started; ``bash-c`` prints other characters than ASCII as escapes."""
    found = {name: [str(program)] for name, program in shells().items()}
    found["busybox"].append("sh")
    return found


DUMPS: Final = [
    ("bash", "export -p"),
    ("bash", "declare -p"),
    ("bash", "declare -px"),
    ("bash", "set -o posix; export -p"),
    ("bash", "LC_ALL=C; export -p"),
    ("dash", "export -p"),
    ("busybox", "export -p"),
    ("bash", "env -0"),
    ("dash", "env -0"),
]


@pytest.mark.parametrize(("shell", "printing"), DUMPS)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(variables=VALUES)
@example(variables={"A": "it's", "B": "''\n'"})
@example(variables={"A": "\\", "B": "a\\\nb", "c_1": "x\r\ny\r"})
@example(variables={"GIVEN_LINES": "another\nA=2"})
def test_what_a_shell_prints_of_its_environment_is_read_back(
    programs: dict[str, list[str]],
    tmp_path_factory: pytest.TempPathFactory,
    shell: str,
    printing: str,
    variables: dict[str, str],
) -> None:
    path = tmp_path_factory.mktemp("dump") / "environment"
    environment_after(programs[shell], printing, variables, path)
    expected = BEFORE | variables
    found = read(path)
    found.pop("LC_ALL", None)
    assert found == expected


@pytest.mark.parametrize("shell", ["bash", "dash"])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(variables=VALUES_OF_ENV)
@example(variables={"A": "'x'", "B": "$HOME # c"})
@example(variables={"GIVEN_QUOTES": "b"})
def test_what_env_prints_is_read_back(
    programs: dict[str, list[str]],
    tmp_path_factory: pytest.TempPathFactory,
    shell: str,
    variables: dict[str, str],
) -> None:
    path = tmp_path_factory.mktemp("env") / "environment"
    environment_after(programs[shell], "env", variables, path)
    assert read(path) == BEFORE | variables


@pytest.mark.parametrize("printing", ["env", "env -0"])
def test_a_function_that_bash_exports_is_a_variable(
    programs: dict[str, list[str]], tmp_path: Path, printing: str
) -> None:
    path = tmp_path / "environment"
    define = "f() { if true; then\n echo \"A=1 '$1'\"\nfi; }; export -f f; "
    environment_after(programs["bash"], define + printing, {"A": "1"}, path)
    found = read(path)
    done = subprocess.run(
        [*programs["bash"], "-c", "f 2"], env=found, capture_output=True, check=True, timeout=HANG_TIMEOUT
    )
    assert done.stdout == b"A=1 '2'\n"


def test_a_function_of_the_shell_is_left_out_and_said_once(
    programs: dict[str, list[str]], tmp_path: Path
) -> None:
    path = tmp_path / "environment"
    define = "f() { A=2; { B=3; }; }; export -f f; "
    environment_after(programs["bash"], f"{{ {define} export -p; export -f; }}", {"A": "1"}, path)
    file = read_environment_file(path, before=BEFORE, own={}, mark=MARK)
    assert [note.what for note in file.notes] == ["a function of the shell is left out"]
    assert (file.variables["A"].reveal(), "B" in file.variables) == ("1", False)

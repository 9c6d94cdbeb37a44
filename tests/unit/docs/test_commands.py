"""The commands in the documents are valid: their programs parse them."""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest

from oz_agent_worker.cli.main import root
from scripts.docs.commandline import PROGRAM, commands, options_table
from scripts.docs.parts import ROOT
from tests.chart.helm_cli import Helm
from tests.chart.provisioned import helm_in, provisioned_programs

from .documents import DOCUMENTS, Block, anchors, blocks, read
from .documents import commands as shown

OURS = shown(PROGRAM)
HELM = shown("helm")
KUBECTL = shown("kubectl")
MAKE = shown("make")


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """A Helm that renders."""
    return helm_in(tmp_path_factory.mktemp("helm"))


def parse(command: click.Command, argv: list[str], parent: click.Context | None = None) -> click.Context:
    """Parse a command line as the program does, down to its subcommand, and run nothing.

    Raises:
        click.UsageError: it would be refused.
    """
    context = command.make_context(command.name, list(argv), parent=parent)
    rest = [*context._protected_args, *context.args]
    if isinstance(command, click.Group) and rest:
        _, child, arguments = command.resolve_command(context, rest)
        assert child is not None
        return parse(child, arguments, context)
    return context


def split_command(command: str) -> list[str]:
    """Split a command line; a substitution of the shell counts as one word."""
    plain = re.sub(r"\"\$\(.*?\)\"|\"?\$\w+\"?", "0" * 40, command)  # a key has 32 or more
    return shlex.split(re.sub(r"[<>] ?\S+$", "", plain))


@pytest.mark.parametrize(("block", "command"), OURS, ids=[f"{b}-{c[:40]}" for b, c in OURS])
def test_a_command_of_ours_can_be_parsed(block: Block, command: str) -> None:
    try:
        parse(root, split_command(command)[1:])
    except click.exceptions.Exit:
        pass  # --help and --version
    except click.UsageError as error:
        pytest.fail(f"{block}: {command}: {error.format_message()}")


def test_an_unknown_command_or_option_is_detected() -> None:
    with pytest.raises(click.UsageError, match="No such option"):
        parse(root, ["runs", "--everything"])
    with pytest.raises(click.UsageError, match="No such command"):
        parse(root, ["jobs"])
    assert len(OURS) > 20
    assert len(HELM) > 6
    assert len(KUBECTL) > 10


def known_to(program: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Let a program parse a command line; `--help` at its end keeps it from doing anything."""
    environment = {"PATH": os.environ["PATH"], "KUBECONFIG": os.devnull}
    line = [str(program), *command, "--help"]
    return subprocess.run(line, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("block", "command"), [*HELM, *KUBECTL], ids=lambda given: str(given)[:50])
def test_a_command_of_the_cluster_has_these_options(block: Block, command: str) -> None:
    programs = provisioned_programs()
    program = programs.helm if command.startswith("helm") else programs.kubectl
    done = known_to(program, split_command(command)[1:])
    assert done.returncode == 0, f"{block}: {command}: {done.stderr}"


@pytest.mark.parametrize("line", ["get pods --selectr a", "frob pods", "logs --tial=5 x"])
def test_an_unknown_option_of_kubectl_is_detected(line: str) -> None:
    assert known_to(provisioned_programs().kubectl, line.split()).returncode != 0


def release_arguments(command: str) -> list[str]:
    """The words of a Helm command, so that `template` takes them.

    It does not take `--reuse-values`, which leaves out what a newer chart has by default.
    """
    left_out = {"--create-namespace", "--reset-then-reuse-values", "--logs"}
    return [word for word in split_command(command)[2:] if word not in left_out]


@pytest.mark.parametrize(("block", "command"), HELM, ids=[f"{b}-{c[:40]}" for b, c in HELM])
def test_a_helm_command_can_be_rendered(helm: Helm, block: Block, command: str) -> None:
    verb = split_command(command)[1]
    assert verb in {"install", "upgrade", "uninstall", "test"}, f"{block}: helm {verb}"
    if verb in {"install", "upgrade"}:
        release, chart, *options = release_arguments(command)
        minimal = ROOT / chart / "ci/minimal-values.yaml"
        values = [f"--values={minimal}"] if verb == "upgrade" else []
        assert helm.run("template", release, ROOT / chart, *values, *options)
    else:
        known = {split_command(other)[2] for _, other in HELM if split_command(other)[1] == "install"}
        assert split_command(command)[2] in known, (
            f"{block}: no install of {split_command(command)[2]} is shown"
        )


@pytest.mark.parametrize(("block", "command"), MAKE, ids=[f"{b}-{c}" for b, c in MAKE])
def test_a_target_of_make_exists(block: Block, command: str) -> None:
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    named = [word for word in split_command(command)[1:] if "=" not in word]
    assert named
    assert set(named) <= set(targets), str(block)


@pytest.mark.parametrize("name", ["make", "helm", PROGRAM])
def test_commands_in_running_text_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    known = {"make": targets, "helm": {"install", "upgrade", "uninstall", "test", "get"}}
    known[PROGRAM] = {full.split()[1] for full in commands() if " " in full}
    for document in DOCUMENTS:
        for word in re.findall(rf"`{name} ([a-z][a-z0-9-]*)", read(document)):
            assert word in known[name], f"{document.name}: {name} {word}"


def test_every_command_has_its_heading_and_its_table() -> None:
    page = ROOT / "docs/commands.md"
    assert {name.replace(" ", "-") for name in commands()} == anchors(page) - {"commands"}
    for name, command in commands().items():
        assert f"<!-- options of {name}, written by `make docs` -->\n{options_table(command)}" in read(page)


def test_files_that_commands_name_exist() -> None:
    for document in DOCUMENTS:
        for block in blocks(document, "sh"):
            for path in re.findall(r"(?<![\w/.-])(?:examples|images|charts|docs)/[\w./-]+", block.content):
                assert (ROOT / path).exists(), f"{block}: {path}"


@click.command("sample")
@click.argument("name")
@click.option("-n", "--number", type=int, default=3, envvar="NUMBER", help="A | number.")
@click.option("--flag", is_flag=True, help="A flag.")
@click.option("--many", multiple=True, metavar="X", help="Several.")
@click.option("--needed", required=True, metavar="Y", help="One.")
@click.option("--secret", hidden=True)
def sample(**_: Any) -> None:
    """A command with one of each."""


def test_the_table_has_a_row_for_each_option() -> None:
    assert options_table(sample).splitlines()[2:] == [
        "| `NAME` |  | Argument. |",
        "| `--number`, `-n` `INTEGER` | `3` | A \\| number. Environment: `NUMBER`. |",
        "| `--flag` |  | A flag. |",
        "| `--many` `X` |  | Several. Repeatable. |",
        "| `--needed` `Y` | required | One. |",
    ]
    assert options_table(click.Command("none")) == "It has no options.\n"

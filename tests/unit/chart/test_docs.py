"""The commands in the charts' documents work."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from scripts.chart_values import CHARTS
from tests.chart.helm_cli import ROOT, Helm

FENCED = re.compile(r"^```(?P<language>\w+)\n(?P<content>.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?P<file>[\w.-]+\.md)?(?:#(?P<heading>[\w-]+))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)

DOCUMENTS = [ROOT / document for document in CHARTS.values()]
READMES = [ROOT / folder / "README.md" for folder in CHARTS]


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language."""
    found = FENCED.finditer(document.read_text(encoding="utf-8"))
    return [block["content"] for block in found if block["language"] == language]


def installs(documents: list[Path]) -> list[str]:
    """Every `helm install` of the documents, each on one line."""
    lines = [
        line
        for document in documents
        for block in blocks(document, "sh")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return [line for line in lines if line.startswith("helm install")]


@pytest.mark.parametrize("command", installs([*DOCUMENTS, *READMES]))
def test_an_install_can_be_rendered(helm: Helm, command: str) -> None:
    argv = shlex.split(command.replace("$(openssl rand -hex 32)", "0" * 64))
    release, chart, *options = argv[2:]
    options = [word for word in options if word != "--create-namespace"]
    assert helm.run("template", release, ROOT / chart, *options)


@pytest.mark.parametrize("folder", CHARTS)
def test_the_values_of_a_document_can_be_rendered(helm: Helm, folder: str, tmp_path: Path) -> None:
    shown = blocks(ROOT / CHARTS[folder], "yaml")
    assert shown
    for number, block in enumerate(shown):
        file = tmp_path / f"{number}.yaml"
        file.write_text(block)
        minimal = ROOT / folder / "ci/minimal-values.yaml"
        before = helm.template(ROOT / folder, minimal)
        assert helm.template(ROOT / folder, minimal, file) != before


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.name)
def test_a_link_leads_somewhere(document: Path) -> None:
    for link in LINK.finditer(document.read_text(encoding="utf-8")):
        target = document.parent / link["file"] if link["file"] else document
        headings = HEADING.findall(target.read_text(encoding="utf-8"))
        anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
        assert link["heading"] is None or link["heading"] in anchors, link.group()


def test_two_installs_give_one_system(helm: Helm) -> None:
    plane, worker = (command for command in installs(DOCUMENTS) if "--namespace oz " in command)
    service = next(
        found
        for found in helm.template(ROOT / "charts/oz-control-plane", release="oz-control-plane",
                                   namespace="oz", values={"image.tag": "v1"})
        if found["kind"] == "Service"
    )  # fmt: skip
    port = service["spec"]["ports"][0]["port"]
    address = f"{service['metadata']['name']}.oz.svc:{port}"
    assert f"warp.serverRootURL=http://{address}" in worker
    assert f"warp.webSocketURL=ws://{address}/api/v1/selfhosted/worker/ws" in worker
    assert "apiKeySecret.create=true" in plane


def test_the_charts_case_of_a_public_values_file_uses_no_value_of_our_own() -> None:
    given = yaml.safe_load((ROOT / "charts/oz-agent-worker/ci/public-values.yaml").read_text())
    ours = {"networkPolicy", "podDisruptionBudget", "global"}
    assert not ours & given.keys()
    assert not {"health", "logFormat", "existingConfigMap", "priorityClassName"} & given["worker"].keys()

"""What docs/kubernetes.md shows is what the code has."""

import re
from pathlib import Path

import yaml

from oz_agent_worker.worker.backends.kubernetes.preflight.permissions import (
    INSPECTION,
    needed_permissions,
    role_rules,
    summary,
)
from oz_agent_worker.worker.config.schema import KubernetesConfig

DOCUMENT = (Path(__file__).parents[5] / "docs" / "kubernetes.md").read_text()
BLOCKS = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


def test_the_role_is_what_the_worker_needs() -> None:
    (shown,) = (yaml.safe_load(block) for block in BLOCKS if "kind: Role\n" in block)
    assert shown["rules"] == yaml.safe_load(role_rules(needed_permissions(KubernetesConfig())))


def test_the_rule_for_secrets_is_the_one_that_their_key_adds() -> None:
    (shown,) = (yaml.safe_load(block) for block in BLOCKS if block.startswith("- {apiGroups"))
    needed = needed_permissions(KubernetesConfig(task_env_secret=True))
    without = needed_permissions(KubernetesConfig())
    assert shown == yaml.safe_load(role_rules(p for p in needed if p not in without))


def test_the_table_names_every_permission() -> None:
    rows = re.findall(r"^\| ([a-z/]+): ([a-z, ]+) \|", DOCUMENT, re.MULTILINE)
    shown = {f"{resource}: {verb}" for resource, verbs in rows for verb in verbs.split(", ")}
    assert shown == set(map(str, needed_permissions(KubernetesConfig(task_env_secret=True))))


def test_a_person_needs_what_the_guide_to_the_inspection_says() -> None:
    guide = (Path(__file__).parents[5] / "docs" / "kubernetes-inspect.md").read_text()
    sentence = " ".join(guide.partition("They need these permissions:\n")[2].partition(".")[0].split())
    assert sentence == "`jobs: get, list; pods: list; pods/log: get; events: list`"
    assert sentence.strip("`") == summary(INSPECTION)


def test_its_links_lead_to_its_headings() -> None:
    headings = {re.sub(r"[^a-z -]", "", h.lower()).replace(" ", "-") for h in _headings()}
    links = re.findall(r"\]\(#([^)]+)\)", DOCUMENT)
    assert links
    assert set(links) <= headings


def _headings() -> list[str]:
    return re.findall(r"^#+ (.+)$", DOCUMENT, re.MULTILINE)

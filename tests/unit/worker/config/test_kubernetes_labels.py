"""Keys of labels and annotations, refused with their position in the file."""

import pytest

from oz_agent_worker.worker.config.load import parse_file


def problems(section: str) -> list[str]:
    _, found = parse_file(f"backend:\n  kubernetes:\n    {section}\n", "worker.yaml")
    return found.found


@pytest.mark.parametrize(
    "section",
    [
        "extra_labels: {team: core, example.com/team: core, app.kubernetes.io/name: oz, 1: ''}",
        "extra_annotations: {example.com/note: 'any text, é', batch.kubernetes.io/note: x}",
        "extra_labels: {}",
        "extra_labels:",
    ],
)
def test_keys_of_kubernetes_are_taken(section: str) -> None:
    assert problems(section) == []


@pytest.mark.parametrize("key", ["extra_labels", "extra_annotations"])
@pytest.mark.parametrize("name", ["two words", "-team", "Example.com/team", "a/b/c", "x" * 64, "team/"])
def test_others_are_refused_by_line_and_path(key: str, name: str) -> None:
    (problem,) = problems(f"{key}:\n      {name}: a")
    assert problem.startswith(f"worker.yaml:4: backend.kubernetes.{key}.{name}: this is no key of Kubernetes")


@pytest.mark.parametrize("name", ["job-name", "controller-uid", "batch.kubernetes.io/job-name"])
def test_labels_of_the_job_controller_are_refused(name: str) -> None:
    assert problems(f"extra_labels: {{{name}: a}}") == [
        f"worker.yaml:3: backend.kubernetes.extra_labels.{name}: the Job controller sets this one itself"
    ]


def test_values_are_looked_at_too() -> None:
    (problem,) = problems("extra_labels: {team: two words}")
    assert "extra_labels.team: read 'two words', allowed is a label value" in problem
    assert problems("extra_labels: [a]") == [
        "worker.yaml:3: backend.kubernetes.extra_labels: read a list, allowed is a mapping"
    ]

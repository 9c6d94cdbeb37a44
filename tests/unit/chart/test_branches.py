"""Lint, and the matrix of values: each branch of each template goes both ways."""

from pathlib import Path

import pytest

from tests.chart.branches import branches_taken, instrument, instrumented_text
from tests.chart.helm_cli import CASES, CONTROL_PLANE, WORKER, Helm, case_id, values_arguments


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_lint_has_nothing_to_say(helm: Helm, case: Path) -> None:
    output = helm.run("lint", "--strict", "--quiet", case.parents[1], *values_arguments(case))
    assert output.strip() == ""


@pytest.mark.parametrize("chart", [WORKER, CONTROL_PLANE], ids=lambda chart: chart.name)
def test_the_cases_take_each_branch_of_each_template(helm: Helm, chart: Path, tmp_path: Path) -> None:
    copy = instrument(chart, tmp_path / chart.name)
    cases = [case for case in CASES if case.parents[1] == chart]
    taken = branches_taken(helm.template(copy.folder, cases[0], release=f"my-{chart.name}"))
    for case in cases:
        taken |= branches_taken(helm.template(copy.folder, case))
    assert sorted(copy.branches - taken) == []
    assert taken <= copy.branches
    assert len(copy.branches) > 50


def test_each_branch_has_one_note_and_loses_no_whitespace() -> None:
    text = "a: 1\n{{- if .x }}\nb: 2\n{{- else if .y }}\nc: 3\n{{- end }}\n{{- with .z -}} d {{- end -}}\n"
    noted, names = instrumented_text(text, "f")
    assert names == {"f:2:if", "f:4:else", "f:2:not", "f:7:with", "f:7:not"}
    note = '{{- $_ := set $.Values.branchesTaken "%s" true %s}}'
    assert noted == (
        f"a: 1\n{{{{- if .x }}}}{note % ('f:2:if', '')}\nb: 2\n"
        f"{{{{- else if .y }}}}{note % ('f:4:else', '')}\nc: 3\n"
        f"{{{{- else }}}}{note % ('f:2:not', '')}{{{{- end }}}}\n"
        f"{{{{- with .z -}}}}{note % ('f:7:with', '-')} d "
        f"{{{{- else }}}}{note % ('f:7:not', '')}{{{{- end -}}}}\n"
    )


def test_what_only_fails_has_no_branch_of_its_own() -> None:
    _, names = instrumented_text('{{- if .x -}}\n{{- fail "x" -}}\n{{- end -}}', "f")
    assert names == {"f:1:not"}

"""A short run with a fixed seed; and runs with a worker that breaks a promise, which must be noticed."""

import asyncio
import io
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.progress import Progress
from tests.chaos.report import findings, summary
from tests.chaos.run import Result, run_chaos
from tests.chaos.settings import SHARP, SHORT
from tests.chaos.steps import find
from tests.chaos.story import story_of
from tests.cluster.api_tier import ApiTier

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

SEED = 7


def explain(result: Result) -> str:
    """All that helps to find out why."""
    stories = ["\n".join(map(str, story_of(result.folder, bad.run_id))) for bad in result.comparison.bad[:2]]
    return "\n".join([summary(result), *findings(result), *stories])


def test_no_task_is_lost_and_none_runs_twice(api_tier: ApiTier, tmp_path: Path) -> None:
    settings = replace(SHORT, seed=SEED)
    result = asyncio.run(run_chaos(settings, api_tier, tmp_path, Progress(io.StringIO())))
    assert not result.comparison.bad, explain(result)
    assert result.left_behind == [], explain(result)
    assert len(result.kills) >= settings.kills
    missed = [name for name in result.unpassed if not find(name).rare]
    assert missed == [], "steps that no process came by: the table is not of this product"


@pytest.mark.parametrize("mutant", ["outbox-off", "delete-before-delivered", "claim-before-create"])
def test_a_broken_promise_is_noticed(api_tier: ApiTier, tmp_path: Path, mutant: str) -> None:
    settings = replace(SHARP, seed=SEED, mutant=mutant)
    result = asyncio.run(run_chaos(settings, api_tier, tmp_path, Progress(io.StringIO())))
    assert len(result.comparison.lost) > 0, explain(result)

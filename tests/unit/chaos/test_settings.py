import pytest

from tests.chaos.settings import FULL, SHORT, parse_settings


def test_the_full_profile_is_the_default_and_draws_a_seed() -> None:
    one, other = parse_settings([]), parse_settings([])
    assert (one.tasks, one.kills) == (FULL.tasks, FULL.kills) == (1000, 200)
    assert one.seed != other.seed


def test_what_is_given_counts_more_than_the_profile() -> None:
    settings = parse_settings(["--profile", "short", "--seed", "7", "--tasks", "9", "--mutant", "outbox-off"])
    assert (settings.seed, settings.tasks, settings.kills) == (7, 9, SHORT.kills)
    assert settings.mutant == "outbox-off"
    assert settings.leaks == 0


def test_leaks_has_numbers_of_its_own() -> None:
    assert parse_settings(["--leaks"]).leaks == 10_000
    assert parse_settings(["--leaks"]).minutes == 12.0
    assert parse_settings(["--leaks", "50"]).leaks == 50


def test_an_unknown_mutant_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--mutant", "nothing"])
    assert "outbox-off" in capsys.readouterr().err

from pathlib import Path

import pytest

from oz_agent_worker.protocol.frames import Capability
from tests.bench.settings import Settings, parse_settings


def test_no_arguments_are_the_defaults() -> None:
    assert parse_settings([]) == Settings()
    assert Settings().capabilities == {Capability.ACK, Capability.HELLO}


def test_quick_does_less_of_everything_but_what_was_asked_for() -> None:
    quick = parse_settings(["--quick", "--in-flight", "50"])
    assert quick.in_flight == 50
    assert quick.starts < Settings().starts
    assert quick.burst < Settings().burst


def test_all_arguments() -> None:
    given = parse_settings(
        ["--in-flight", "5000", "--burst", "10", "--capabilities", "ack, logs", "--output", "f.json"]
    )
    assert (given.in_flight, given.burst, given.output) == (5000, 10, Path("f.json"))
    assert given.capabilities == {Capability.ACK, Capability.LOGS}


def test_a_peer_without_capabilities_is_the_public_protocol() -> None:
    assert parse_settings(["--capabilities", ""]).capabilities == frozenset()


@pytest.mark.parametrize("text", ["0", "1", "-5", "many"])
def test_a_number_of_tasks_that_is_none(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parse_settings(["--in-flight", text])
    assert left.value.code == 2
    assert "--in-flight" in capsys.readouterr().err


@pytest.mark.parametrize(("in_flight", "trickled"), [(2, 1), (100, 50), (500, 250), (5000, 300)])
def test_the_trickle_is_half_of_the_tasks_but_never_takes_long(in_flight: int, trickled: int) -> None:
    settings = Settings(in_flight=in_flight)
    assert settings.trickled == trickled
    assert trickled / settings.rate <= 12

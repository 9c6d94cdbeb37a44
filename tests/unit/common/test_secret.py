import copy
import logging
import pickle

import pytest

from oz_agent_worker.common.secret import REDACTED, Secret

CANARY = "canary-5d1c"


@pytest.mark.parametrize(
    "printed",
    [
        str(Secret(CANARY)),
        repr(Secret(CANARY)),
        f"{Secret(CANARY)}",
        f"{Secret(CANARY)!r}",
        format(Secret(CANARY), ""),
        "%s" % Secret(CANARY),  # noqa: UP031  what logging does
    ],
)
def test_every_way_to_print_a_secret_gives_stars(printed: str) -> None:
    assert printed == REDACTED == "***"


def test_a_format_specification_applies_to_the_stars() -> None:
    assert f"[{Secret(CANARY):>5}]" == "[  ***]"


def test_containers_and_log_records_do_not_print_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("%s", {"key": [Secret(CANARY)]})
    assert caplog.messages == ["{'key': [***]}"]


def test_reveal_is_the_way_to_the_value() -> None:
    assert Secret(CANARY).reveal() == CANARY


def test_secrets_compare_and_hash_by_value() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_an_empty_secret_is_false() -> None:
    assert not Secret("")
    assert Secret("0")


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_leaves_the_process_by_no_side_door(leave: object) -> None:
    assert callable(leave)
    with pytest.raises(TypeError, match="cannot be pickled"):
        leave(Secret(CANARY))


def test_a_secret_has_no_attributes_to_dump() -> None:
    with pytest.raises(TypeError):
        vars(Secret(CANARY))

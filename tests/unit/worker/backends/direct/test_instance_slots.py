from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oz_agent_worker.worker.backends.direct.instance_slots import InstanceSlots

Begin = Callable[[], InstanceSlots]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begin as another process does; all end with the test."""
    begun: list[InstanceSlots] = []

    def begin() -> InstanceSlots:
        slots = InstanceSlots(tmp_path)
        slots.open()
        begun.append(slots)
        return slots

    yield begin
    for slots in begun:
        slots.close()


def test_each_that_lives_has_the_lowest_that_is_free(begin: Begin) -> None:
    first, second, third = begin(), begin(), begin()
    assert [slots.own for slots in (first, second, third)] == [0, 1, 2]
    second.close()
    first.close()
    assert [begin().own, begin().own, begin().own] == [0, 1, 3]


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/nowhere/x")])
def test_a_slot_whose_file_somebody_spoiled_is_nobodys(
    begin: Begin, tmp_path: Path, caplog: pytest.LogCaptureFixture, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "slot-0")
    assert [begin().own, begin().own] == [1, 2]
    assert "slot-0 cannot be locked, the next slot is used" in caplog.text


def test_an_error_that_is_not_the_files_ends_the_search(tmp_path: Path) -> None:
    slots = InstanceSlots(tmp_path / "missing")
    with pytest.raises(FileNotFoundError):
        slots.open()


def test_a_slot_of_one_that_lives_is_not_to_be_had(begin: Begin) -> None:
    first, second = begin(), begin()
    assert not second.hold(first.own)
    first.close()
    assert second.hold(first.own)


def test_a_slot_is_held_until_its_last_use_is_over(begin: Begin) -> None:
    first, second = begin(), begin()
    first.close()
    assert second.hold(0)
    assert second.hold(0)
    assert begin().own == 2
    second.let_go(0)
    assert begin().own == 3
    second.let_go(0)
    assert begin().own == 0


def test_its_own_slot_stays_a_process_until_it_closes(begin: Begin) -> None:
    slots = begin()
    assert slots.hold(slots.own)
    slots.let_go(slots.own)
    assert begin().own == 1


def test_what_names_no_slot_needs_none(begin: Begin) -> None:
    slots = begin()
    assert slots.hold(None)
    slots.let_go(None)


def test_letting_go_after_the_end_is_harmless(begin: Begin) -> None:
    slots = begin()
    slots.close()
    slots.let_go(slots.own)
    slots.close()
    assert begin().own == 0


def test_slots_leave_no_descriptor_behind(begin: Begin, tmp_path: Path) -> None:
    def open_slots() -> int:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(link.resolve().parent == tmp_path for link in links)

    first, second = begin(), begin()
    first.close()
    assert second.hold(0)
    assert open_slots() == 2
    second.close()
    assert open_slots() == 0

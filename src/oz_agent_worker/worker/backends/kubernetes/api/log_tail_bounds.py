"""How the last part of a log is read without reading all of it. Pure.

The API cuts a log at its end (core/v1, PodLogOptions.limitBytes) or after counting lines from it
(``tailLines``). A log that fits into one bounded answer is read so. Of a longer one, lines are asked
for: few first, and then, by what they weigh, so many that they hold the part that is wanted.
"""

from typing import Final

__all__ = ["first_bound", "first_lines", "more_lines"]

#: The longest line that container runtimes write, in bytes; they break longer ones.
_LONGEST_LINE: Final = 16 * 1024
#: By how much more is asked for than the lines read so far let expect.
_MARGIN: Final = 1.25
#: A few lines may weigh much less than those before them.
_MOST_GROWTH: Final = 256


def first_bound(limit: int) -> int:
    """The most bytes of the first answer: ``limit`` of a container's output, and timestamps with it."""
    return 2 * limit


def first_lines(limit: int) -> int:
    """How many lines never weigh more than ``limit`` bytes, runtimes being what they are."""
    return max(1, limit // _LONGEST_LINE)


def more_lines(lines: int, limit: int, *, weight: int) -> int | None:
    """How many lines to ask for, where the last ``lines`` hold ``weight`` bytes of the output.

    ``None`` where they hold its last ``limit`` bytes: so they do, too, where there are more of them
    than bytes are wanted, because no line is empty.
    """
    if weight >= limit or lines > limit:
        return None
    expected = int(lines * limit / max(weight, 1) * _MARGIN) + 1
    return min(max(expected, 2 * lines), _MOST_GROWTH * lines, limit + 1)

"""Lists of IDs for ``IN``, in few lengths.

Each length is another text of SQL, and drivers keep what they have compiled by its text: Python's
``sqlite3`` keeps 128 statements on every connection, at about 12 KiB each. With lists of any length
all of them would be the same few queries.
"""

from collections.abc import Iterable

__all__ = ["padded"]


def padded(ids: Iterable[str]) -> list[str]:
    """Repeat the last of ``ids`` until their number is a power of two, which changes nothing in an ``IN``."""
    found = list(ids)
    if not found:
        return []
    length = 1 << (len(found) - 1).bit_length()
    return found + found[-1:] * (length - len(found))

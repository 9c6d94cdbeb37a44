"""Lists of IDs for ``IN``, in few lengths.

Each length is another SQL text, and drivers cache compiled statements by text: Python's ``sqlite3``
keeps 128 on every connection, at about 12 KiB each. Lists of any length would fill that cache with
copies of a few queries.
"""

from collections.abc import Iterable

__all__ = ["padded"]


def padded(ids: Iterable[str]) -> list[str]:
    """Repeat the last ID until the length is a power of two, which does not change the result of ``IN``."""
    found = list(ids)
    if not found:
        return []
    length = 1 << (len(found) - 1).bit_length()
    return found + found[-1:] * (length - len(found))

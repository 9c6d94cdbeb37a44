"""A name server's answers (RFC 1035), as far as Pods ask for Services."""

import ipaddress
import struct
from collections.abc import Callable
from typing import Final

__all__ = ["DNS_PORT", "answer_to"]

DNS_PORT: Final = 53

# RFC 1035, section 4.1.1: an answer, authoritative, recursion available; 3 is "no such name".
RESPONSE: Final = 0x8480
RECURSION_DESIRED: Final = 0x0100
NAME_ERROR: Final = 3
TYPE_A, CLASS_IN = 1, 1
#: Section 4.1.4: a pointer to the question's name, which follows the header.
NAME_OF_QUESTION: Final = b"\xc0\x0c"
TTL: Final = 5
HEADER: Final = struct.Struct("!6H")


def answer_to(query: bytes, address_of: Callable[[str], str | None]) -> bytes | None:
    """Return the answer to a query with one question, or None where it is no such query.

    ``address_of`` gives a name's IPv4 address. A name that has one and is asked for
    anything else gets an empty answer, so that the asker does not give up the name.
    """
    try:
        number, flags, questions, *_ = HEADER.unpack_from(query)
        name, end = _name(query, HEADER.size)
        kind, group = struct.unpack_from("!2H", query, end)
    except (struct.error, IndexError, UnicodeDecodeError):
        return None
    if questions != 1 or flags & 0x8000:
        return None
    address = address_of(name.lower())
    wanted = address is not None and (kind, group) == (TYPE_A, CLASS_IN)
    code = 0 if address is not None else NAME_ERROR
    header = HEADER.pack(number, RESPONSE | flags & RECURSION_DESIRED | code, 1, int(wanted), 0, 0)
    question = query[HEADER.size : end + 4]
    if address is None or not wanted:
        return header + question
    record = struct.pack("!2HIH", TYPE_A, CLASS_IN, TTL, 4) + ipaddress.IPv4Address(address).packed
    return header + question + NAME_OF_QUESTION + record


def _name(message: bytes, start: int) -> tuple[str, int]:
    """Return the name at a place, without the dot at its end, and the place after it."""
    labels: list[str] = []
    place = start
    while length := message[place]:
        labels.append(message[place + 1 : place + 1 + length].decode("ascii"))
        place += 1 + length
    return ".".join(labels), place + 1

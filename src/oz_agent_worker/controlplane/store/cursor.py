"""Opaque cursors of paged lists: the place at which the next page begins."""

import base64
import binascii
from typing import Final

import msgspec
from msgspec import Struct

__all__ = ["Cursor", "CursorError", "decode_cursor", "encode_cursor"]

_LONGEST: Final = 8192


class Cursor(Struct, frozen=True, array_like=True):
    """The place after one row: the sort key, its direction, and the row's values of it."""

    sort_by: str
    descending: bool
    keys: tuple[str | int, ...]


class CursorError(ValueError):
    """The text is not a cursor that this server made."""


_decoder = msgspec.json.Decoder(Cursor)


def encode_cursor(cursor: Cursor) -> str:
    """Encode a cursor as URL-safe text."""
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).rstrip(b"=").decode()


def decode_cursor(text: str) -> Cursor:
    """Decode a cursor. Raises CursorError."""
    if len(text) > _LONGEST:
        raise CursorError("is too long")
    try:
        padded = text.encode("ascii") + b"=" * (-len(text) % 4)
        cursor = _decoder.decode(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, msgspec.DecodeError) as error:
        raise CursorError("is not a cursor that this server gave") from error
    if any(isinstance(key, str) and "\0" in key for key in cursor.keys):
        raise CursorError("is not a cursor that this server gave")
    return cursor

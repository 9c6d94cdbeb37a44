"""A picture with a palette in place of true colours: a third of the size, for what has few colours.

Source: the PNG specification (www.w3.org/TR/png-3).
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Final

__all__ = ["with_palette"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLORS: Final = 256
_TRUE_COLOR: Final = 2
_CHANNELS: Final = 3
_Color = tuple[int, int, int]


def with_palette(picture: bytes) -> bytes:
    """Give each pixel the nearest of the 256 most frequent colours.

    Raises:
        ValueError: the picture is not of 8 bits a channel, without alpha and not interlaced.
    """
    chunks = list(_chunks(picture))
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
    if (depth, kind, interlaced) != (8, _TRUE_COLOR, 0):
        raise ValueError(f"cannot read a PNG of {depth} bits and colour type {kind}")
    data = zlib.decompress(b"".join(content for name, content in chunks if name == b"IDAT"))
    rows = [
        list(zip(row[::3], row[1::3], row[2::3], strict=True)) for row in _unfiltered(data, width * _CHANNELS)
    ]
    counted = Counter(color for row in rows for color in row)
    palette = [color for color, _ in counted.most_common(_COLORS)]
    index = {color: _nearest(color, palette) for color in counted}
    packed = b"".join(b"\0" + bytes(index[color] for color in row) for row in rows)
    return _SIGNATURE + b"".join(
        (
            _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            _chunk(b"PLTE", bytes(part for color in palette for part in color)),
            _chunk(b"IDAT", zlib.compress(packed, 9)),
            _chunk(b"IEND", b""),
        )
    )


def _chunks(picture: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = len(_SIGNATURE)
    while at < len(picture):
        (size,) = struct.unpack_from(">I", picture, at)
        yield picture[at + 4 : at + 8], picture[at + 8 : at + 8 + size]
        at += 12 + size


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _unfiltered(data: bytes, size: int) -> Iterator[bytearray]:
    """Yield rows of ``size`` bytes; each was stored as differences, in one of five ways."""
    above = bytearray(size)
    for at in range(0, len(data), size + 1):
        row = bytearray(data[at + 1 : at + 1 + size])
        _undo(data[at], row, above)
        yield row
        above = row


def _undo(kind: int, row: bytearray, above: bytearray) -> None:
    for n in range(len(row)):
        left = row[n - _CHANNELS] if n >= _CHANNELS else 0
        corner = above[n - _CHANNELS] if n >= _CHANNELS else 0
        match kind:
            case 0:
                return
            case 1:
                added = left
            case 2:
                added = above[n]
            case 3:
                added = (left + above[n]) // 2
            case _:
                added = _paeth(left, above[n], corner)
        row[n] = (row[n] + added) & 0xFF


def _paeth(left: int, above: int, corner: int) -> int:
    guess = left + above - corner
    return min((left, above, corner), key=lambda one: abs(guess - one))


def _nearest(color: _Color, palette: list[_Color]) -> int:
    distances = [sum((a - b) ** 2 for a, b in zip(color, one, strict=True)) for one in palette]
    return distances.index(min(distances))

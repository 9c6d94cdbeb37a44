r"""Words as shells and dotenv files quote them. Pure.

A text is bytes, read as Latin-1: one character is one byte. So an escape such as ``\303`` in ``$'…'``
is a byte, as with bash, and bytes that are not UTF-8 stay as they are.

=========  ====================================================================================
``'…'``    as it is
``"…"``    the escapes ``\n \r \t \\ \" \$ \```; a backslash before a line's end joins the lines; any
           other backslash stays; ``$A`` and ``${A}`` are expanded
``$'…'``   the escapes of bash (ANSI-C quoting)
bare       up to white space or ``;&|<>()``; a backslash escapes the next character; ``$A`` and
           ``${A}`` are expanded
=========  ====================================================================================

Adjacent pieces are one word: dash writes ``it's`` as ``'it'"'"'s'``. Commands (``$(…)``) and the
shell's other expansions (``${A:-b}``) stay as they are.
"""

import re
from collections.abc import Callable
from typing import Final

__all__ = ["Lookup", "QuoteError", "expand", "read_word"]

#: Returns the value of a variable.
Lookup = Callable[[str], str]

_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_ANSI_C: Final = re.compile(r"\$'([^'\\]*+(?:\\.[^'\\]*+)*+)'", re.DOTALL)
_BARE: Final = re.compile(r"(?:\\.|[^ \t\r\n'\"\\;&|<>()])++")
_OPENING: Final = re.compile(r"\$?['\"]")

_REFERENCE: Final = r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})"
_IN_DOUBLE: Final = re.compile(rf"\\(.)|{_REFERENCE}", re.DOTALL)
_IN_PLAIN: Final = re.compile(rf"\\(\$)|{_REFERENCE}")
_ESCAPED_IN_DOUBLE: Final = {
    "n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$", "`": "`", "\n": "",
}  # fmt: skip
_ESCAPE_IN_ANSI_C: Final = re.compile(
    r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(?:u([0-9A-Fa-f]{1,4})|U([0-9A-Fa-f]{1,8}))|c(.)|(.))", re.DOTALL
)
_ESCAPED_IN_ANSI_C: Final = {
    "a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", "'": "'", '"': '"', "?": "?",
}  # fmt: skip


class QuoteError(ValueError):
    """A quote is not closed. The text shows nothing of the value."""


def read_word(text: str, position: int, lookup: Lookup) -> tuple[str, int]:
    """Read the quoted word that begins at ``position``; return its value, and the position after it.

    Raises:
        QuoteError: a quote is not closed.
    """
    pieces = []
    while True:
        if match := _SINGLE.match(text, position):
            pieces.append(match[1])
        elif match := _DOUBLE.match(text, position):
            pieces.append(_unescape_double(match[1], lookup))
        elif match := _ANSI_C.match(text, position):
            pieces.append(_ESCAPE_IN_ANSI_C.sub(_unescape_ansi_c, match[1]))
        elif opening := _OPENING.match(text, position):
            raise QuoteError(f"the {opening[0][-1]} quote is not closed")
        elif match := _BARE.match(text, position):
            pieces.append(_unescape_bare(match[0], lookup))
        else:
            return "".join(pieces), position
        position = match.end()


def expand(text: str, lookup: Lookup) -> str:
    r"""Expand ``$A`` and ``${A}`` in a value without quotes; ``\$`` is a dollar sign."""
    return _IN_PLAIN.sub(lambda m: m[1] or lookup(m[2] or m[3]), text)


def _unescape_double(text: str, lookup: Lookup) -> str:
    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return lookup(match[2] or match[3])
        return _ESCAPED_IN_DOUBLE.get(match[1], match[0])

    return _IN_DOUBLE.sub(replace, text)


def _unescape_bare(text: str, lookup: Lookup) -> str:
    return _IN_DOUBLE.sub(lambda m: m[1] if m[1] is not None else lookup(m[2] or m[3]), text)


def _unescape_ansi_c(match: re.Match[str]) -> str:
    octal, hexadecimal, short, long, control, other = match.groups()
    if octal:
        return chr(int(octal, 8) & 0xFF)
    if hexadecimal:
        return chr(int(hexadecimal, 16))
    if control:
        return chr(ord(control.upper()) & 0x1F)
    if other:
        return _ESCAPED_IN_ANSI_C.get(other, match[0])
    point = int(short or long, 16)
    return chr(point).encode("utf-8", "surrogatepass").decode("latin-1") if point < 0x110000 else match[0]

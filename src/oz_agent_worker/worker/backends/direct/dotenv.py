r"""Variables from an environment file, by the rules that dotenv files share.

Each entry is ``KEY=VALUE``, with ``export`` allowed before it; blank lines and comments are
skipped. A value without quotes ends at the end of the line or at white space and ``#``, and loses
the white space around it. Single quotes keep everything as it is. Double quotes know the escapes
``\n \r \t \\ \" \$``; any other backslash stays. Quoted values may span lines. Nothing is
interpolated: ``$HOME`` is five characters.
"""

import re
from typing import Final

from oz_agent_worker.common.secret import Secret

__all__ = ["DotenvError", "parse_dotenv"]

_BLANK: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_PLAIN: Final = re.compile(r"((?:[^ \t\n#]|(?<![ \t])#|[ \t]+(?![ \t#\n]|\Z))*)")
_ESCAPE: Final = re.compile(r'\\([nrt\\"$])')
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t"}


class DotenvError(ValueError):
    """An entry that cannot be read. The text names its line and never shows its value."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line


def parse_dotenv(text: str) -> dict[str, Secret]:
    """Read the variables of an environment file; the last entry of a name counts.

    Raises:
        DotenvError: an entry has no ``=``, no valid name, an open quote, something after
            its closing quote, or a NUL character.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    variables: dict[str, Secret] = {}
    position, line = 0, 1
    while position < len(text):
        start = position
        if blank := _BLANK.match(text, position):
            position = blank.end()
        else:
            name, position = _read_name(text, position, line)
            value, position = _read_value(text, position, line)
            variables[name] = Secret(value)
        line += text.count("\n", start, position)
    return variables


def _read_name(text: str, position: int, line: int) -> tuple[str, int]:
    match = _NAME.match(text, position)
    if match is None:
        end = text.find("\n", position)
        entry = text[position:] if end < 0 else text[position:end]
        what = "the name before `=` is not a variable's name" if "=" in entry else "`=` is missing"
        raise DotenvError(line, what)
    return match.group(1), match.end()


def _read_value(text: str, position: int, line: int) -> tuple[str, int]:
    """Return the value that begins at ``position``, and where the next entry begins."""
    quote = text[position : position + 1]
    match = {"'": _SINGLE, '"': _DOUBLE}.get(quote, _PLAIN).match(text, position)
    if match is None:
        raise DotenvError(line, f"the {quote} quote is not closed")
    value = match.group(1)
    if quote == '"':
        value = _ESCAPE.sub(lambda escape: _ESCAPED.get(escape[1], escape[1]), value)
    if "\0" in value:
        raise DotenvError(line, "the value has a NUL character, which no variable can have")
    rest = _BLANK.match(text, match.end())
    if rest is None:
        raise DotenvError(line, "something follows the closing quote")
    return value, rest.end()

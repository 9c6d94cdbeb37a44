r"""Variables from the environment file that a setup command wrote. Pure.

The file is written by people, and by programs that print an environment. An entry that cannot be
read is left out with a note, and the next line is read.

=============================  ================================================================
``A=b``, ``export A=b``        to the end of the line, or white space and ``#``
``A: b``                       the same
``A="b"``, ``A='b'``           a word as shells quote it (``quoting``), over several lines too
``declare -x A="b"``           what ``export -p`` and ``declare -p`` of bash print
``A<<END`` … ``END``           the lines between, as they are
``BASH_FUNC_f%%=() {`` … ``}``  a function, as ``env`` prints it
=============================  ================================================================

Two forms have values without quotes, which are taken as they are: ``env -0``, whose entries end with
a NUL character, and ``env``, which is recognised by the line with the variable that has the
execution's mark. There a value ends where the next entry begins.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .quoting import QuoteError, expand, read_word

__all__ = ["Note", "Parsed", "parse_dotenv"]

_BLANK: Final = re.compile(r"(?:[ \t]*(?:#[^\n]*)?\r?\n)*+(?:[ \t]*(?:#[^\n]*)?\r?\Z)?")
_DECLARATION: Final = re.compile(r"[ \t]*(export|declare|typeset)((?:[ \t]+[-+][A-Za-z-]+)*)[ \t]+(?![=:])")
_NAME: Final = re.compile(r"[ \t]*([A-Za-z0-9_.]+)[ \t]*")
_FUNCTION_VARIABLE: Final = re.compile(r"(BASH_FUNC_[^\s=]+)=\(\) \{")
_FUNCTION: Final = re.compile(
    r"[ \t]*(?:function[ \t]+)?[^\s=()'\"$]+[ \t]*\(\)[ \t]*\r?(?:\n[ \t]*)?\{[^\n]*"
)
_FUNCTION_END: Final = re.compile(r"^\}[ \t\r]*$", re.MULTILINE)
_HEREDOC: Final = re.compile(r"<<([^\s][^\n]*?)[ \t\r]*(?:\n|\Z)")
_COMMENT: Final = re.compile(r"(?<=[ \t])#")
_QUOTED: Final = re.compile(r"\$?['\"]")
#: What may follow a value: what ``ssh-agent`` prints after it, a comment, the line's end.
_EXPORTED_AFTER: Final = r"(?:;[ \t]*(?:export[ \t]+[A-Za-z_]\w*[ \t]*;?)?)?"
_REST: Final = re.compile(rf"[ \t]*{_EXPORTED_AFTER}[ \t]*(?:(?<=[ \t])#[^\n]*?)?(\r?\n|\r?\Z)", re.ASCII)
_EXPORT_COMMAND: Final = re.compile(r";[ \t]*export[ \t]+[A-Za-z_]\w*[ \t]*;?\Z", re.ASCII)
#: Where an entry of ``env`` begins; other lines there belong to the value before them.
_RAW: Final = r"(?:[A-Za-z_][A-Za-z0-9_]*|BASH_FUNC_[^\s=]+)="
_RAW_NAME: Final = re.compile(rf"({_RAW[:-1]})=")
_NEXT: Final = re.compile(
    rf"^(?:{_RAW}|(?:export|declare|typeset)[ \t]|[A-Za-z_][A-Za-z0-9_]*<<)", re.MULTILINE
)

#: Lines that are read; the rest is left out.
MAX_LINES: Final = 50_000
#: The longest ``NAME=VALUE`` that a program can be started with, in bytes (Linux: MAX_ARG_STRLEN).
MAX_VALUE: Final = 32 * 4096 - 2
#: The most that all variables may have, in bytes: a file whose values refer to each other grows (Linux
#: gives arguments and variables three quarters of 8 MiB at most).
MAX_TOTAL: Final = 6 * 1024 * 1024

_TOO_LONG: Final = f"it is longer than {MAX_VALUE} bytes, which no program can be started with"
_TOO_MUCH: Final = (
    f"with it the variables have more than {MAX_TOTAL} bytes, which no program can be started with"
)
_UNSET: Final = (
    "a variable in its value is not set and became empty; for a dollar sign write \\$, or use single quotes"
)


@dataclass(frozen=True, slots=True)
class Note:
    """What was left out, or not taken as it stands. It shows nothing of a value."""

    line: int
    name: str | None
    what: str

    def __str__(self) -> str:
        subject = f"{self.name}: " if self.name else ""
        return f"line {self.line}: {subject}{self.what}"


@dataclass(frozen=True, slots=True)
class Parsed:
    """The variables, with the line of each and their values as Latin-1, and the notes."""

    variables: dict[str, tuple[int, str]] = field(default_factory=dict, repr=False)
    notes: list[Note] = field(default_factory=list)


def parse_dotenv(text: str, before: Mapping[str, str], mark: str | None = None) -> Parsed:
    """Read the variables of an environment file; the last entry of a name counts. Never raises.

    ``text`` and the values of ``before`` are bytes as Latin-1. ``before`` is the environment of the
    command that wrote the file: ``$A`` expands to what an earlier line has, or to the value there.
    ``mark`` is the line by which the output of ``env`` is recognised.
    """
    text = text.removeprefix("\xef\xbb\xbf")
    reader = _Reader(text, before)
    if "\0" in text:
        reader.read_null_separated()
    else:
        dump = mark is not None and f"\n{mark}\n" in f"\n{text}\n" and "\nBASH_VERSION=" not in text
        reader.read(dump=dump)
    return reader.parsed


class _LeftOutError(Exception):
    """The entry is left out; the text says why."""


class _Reader:
    """One pass over a text, entry by entry."""

    def __init__(self, text: str, before: Mapping[str, str]) -> None:
        self.parsed = Parsed()
        self._text = text
        self._before = before
        self._position, self._line, self._counted = 0, 1, 0
        self._unset, self._expanded = False, 0
        self._unexported = self._total = 0
        self._last_lines: dict[str, int] | None = None
        self._last_brace: int | None = None

    def read(self, *, dump: bool) -> None:
        """Read all entries; ``dump`` says that the text is what ``env`` printed."""
        while True:
            if blank := _BLANK.match(self._text, self._position):
                self._position = blank.end()
            if self._position >= len(self._text):
                break
            if self._line_number() > MAX_LINES:
                self._note(None, f"this line and those after it are left out: {MAX_LINES} lines are read")
                break
            self._read_entry(dump=dump)
        if self._unexported:
            count = self._unexported
            self._note(None, f"{count} variable(s) of the shell that it does not export are left out")

    def read_null_separated(self) -> None:
        """Read what ``env -0`` printed."""
        for entry in self._text.split("\0"):
            name, equals, value = entry.partition("=")
            try:
                if name and equals:
                    self._set(name, value)
                elif entry.strip("\r\n"):
                    raise _LeftOutError("the name before `=` is empty" if equals else "`=` is missing")
            except _LeftOutError as error:
                self._note(name if name and equals else None, f"{error}: left out")
            self._line += entry.count("\n")

    # ---------------------------------------------------------------------------- entries

    def _read_entry(self, *, dump: bool) -> None:
        """Read the entry at the position. One that is left out costs one line, unless its end is known."""
        start = self._position
        declaration = _DECLARATION.match(self._text, start)
        name = _NAME.match(self._text, declaration.end() if declaration else start)
        self._unset, self._expanded = False, 0
        try:
            if (dump and self._read_raw()) or self._skip_function(declaration):
                return
            if name is None:
                raise _LeftOutError(self._no_name())
            value = self._read_value(name, declaration)
            if value is None:
                return
            if declaration and declaration[1] != "export" and "x" not in declaration[2]:
                self._unexported += 1
                return
            self._set(name[1], value)
            if self._unset:
                self._note(name[1], _UNSET)
        except (_LeftOutError, QuoteError) as error:
            self._note(name[1] if name and self._separator(name) else None, f"{error}: left out")
            if self._position == start:
                self._position = self._end_of_line(start)

    def _read_value(self, name: re.Match[str], declaration: re.Match[str] | None) -> str | None:
        """Read what follows a name, and move on; ``None`` if there is nothing to set."""
        text, start = self._text, name.end()
        if heredoc := _HEREDOC.match(text, name.end(1)):
            return self._read_heredoc(heredoc)
        if self._separator(name):
            start += 1
            while text[start : start + 1] in (" ", "\t"):
                start += 1
            if declaration and text[start : start + 1] == "(":
                self._position = self._end_of_line(start)
                if "x" in declaration[2]:
                    self._note(name[1], "an array, which no environment has, is left out")
                else:
                    self._unexported += 1
                return None
            return self._read_quoted(start) if _QUOTED.match(text, start) else self._read_plain(start)
        if declaration and _REST.match(text, start):  # the shell's variable has no value
            self._position = self._end_of_line(start)
            return None
        raise _LeftOutError(self._no_name())

    def _separator(self, name: re.Match[str]) -> bool:
        """Whether ``=`` follows a name, or ``:`` as in YAML."""
        following = self._text[name.end() : name.end() + 1]
        return following == "=" or (following == ":" and not name[1][0].isdigit())

    def _read_quoted(self, start: int) -> str:
        value, end = read_word(self._text, start, self._look_up)
        rest = _REST.match(self._text, end)
        if rest is None:
            raise _LeftOutError("something follows the closing quote")
        self._position = rest.end()
        return value.replace("\r\n", "\n") if rest[1] == "\r\n" else value

    def _read_plain(self, start: int) -> str:
        end = self._end_of_line(start)
        comment = _COMMENT.search(self._text, start, end)
        value = self._text[start : comment.start() if comment else end].rstrip(" \t\r\n")
        self._position = end
        return expand(_EXPORT_COMMAND.sub("", value), self._look_up)

    def _read_heredoc(self, opening: re.Match[str]) -> str:
        delimiter = opening[1]
        if self._last_lines is None:
            self._last_lines = {m[1]: m.start() for m in re.finditer(r"^(.*?)\r?$", self._text, re.MULTILINE)}
        if self._last_lines.get(delimiter, -1) < opening.end():
            raise _LeftOutError("the line that ends it is missing")
        end = re.compile(rf"^{re.escape(delimiter)}\r?$", re.MULTILINE).search(self._text, opening.end())
        assert end is not None, "it is one of the lines"
        self._position = self._end_of_line(end.start())
        value = self._text[opening.end() : end.start()].removesuffix("\n").removesuffix("\r")
        return value.replace("\r\n", "\n") if end[0].endswith("\r") else value

    def _skip_function(self, declaration: re.Match[str] | None) -> bool:
        """Skip a function of the shell; take one as ``env`` prints it."""
        if declaration:
            if "f" not in declaration[2]:
                return False
            self._position = self._end_of_line(self._position)
            return True
        if variable := _FUNCTION_VARIABLE.match(self._text, self._position):
            value_start = self._position + len(variable[1]) + 1
            end = self._function_end(variable.end())
            self._position = self._end_of_line(end)
            self._set(variable[1], self._text[value_start:end])
            return True
        function = _FUNCTION.match(self._text, self._position)
        if function is None:
            return False
        if not function[0].rstrip().endswith("}"):
            self._note(None, "a function of the shell is left out")
            self._position = self._end_of_line(self._function_end(function.end()))
            return True
        raise _LeftOutError("a function of the shell")

    def _function_end(self, start: int) -> int:
        """Where the closing brace of a function ends.

        Raises:
            _LeftOutError: there is none.
        """
        if self._last_brace is None:
            self._last_brace = max((m.start() for m in _FUNCTION_END.finditer(self._text)), default=-1)
        end = _FUNCTION_END.search(self._text, start) if self._last_brace >= start else None
        if end is None:
            raise _LeftOutError("the brace that closes a function is missing")
        return end.start() + 1

    # ------------------------------------------------------------------------ output of env

    def _read_raw(self) -> bool:
        """Read an entry as ``env`` prints it; False if there is none here."""
        name = _RAW_NAME.match(self._text, self._position)
        if name is None:
            return False
        old, start = self._before.get(name[1]), name.end()
        if old is not None and f"{self._text[start : start + len(old) + 1]}\n".startswith(f"{old}\n"):
            end = start + len(old)  # what the command was given, whatever it looks like
        elif name[1].startswith("BASH_FUNC_"):
            return False
        else:
            following = _NEXT.search(self._text, self._end_of_line(start))
            end = following.start() - 1 if following else len(self._text.removesuffix("\n"))
        self._position = end + 1
        self._set(name[1], self._text[start:end])
        return True

    # ----------------------------------------------------------------------------- helpers

    def _look_up(self, name: str) -> str:
        if name in self.parsed.variables:
            value = self.parsed.variables[name][1]
        else:
            value = self._before.get(name, "")
            self._unset = self._unset or name not in self._before
        self._expanded += len(value)  # references to references grow without end
        if self._expanded > MAX_VALUE:
            raise _LeftOutError(_TOO_LONG)
        return value

    def _set(self, name: str, value: str) -> None:
        if "\0" in value:
            raise _LeftOutError("the value has a NUL character, which no variable can have")
        if len(value) > MAX_VALUE - len(name):
            raise _LeftOutError(_TOO_LONG)
        _, earlier = self.parsed.variables.get(name, (0, ""))
        total = self._total + len(value) - len(earlier)
        if total > MAX_TOTAL:
            raise _LeftOutError(_TOO_MUCH)
        self._total = total
        self.parsed.variables[name] = self._line, value

    def _note(self, name: str | None, what: str) -> None:
        self.parsed.notes.append(Note(self._line, name, what))

    def _no_name(self) -> str:
        entry = self._text[self._position : self._end_of_line(self._position)]
        return "the name before `=` is not a variable's name" if "=" in entry else "`=` is missing"

    def _end_of_line(self, position: int) -> int:
        return self._text.find("\n", position) + 1 or len(self._text)

    def _line_number(self) -> int:
        """The line of the position, which only moves on."""
        self._line += self._text.count("\n", self._counted, self._position)
        self._counted = self._position
        return self._line

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.direct.dotenv import DotenvError, parse_dotenv


def read(text: str) -> dict[str, str]:
    return {name: value.reveal() for name, value in parse_dotenv(text).items()}


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("A=", ""),
        ("  A  =  b c  ", "b c"),
        ("export A=b", "b"),
        ("export\tA=b", "b"),
        ("A=b # comment", "b"),
        ("A=b#c", "b#c"),
        ("A=#c", "#c"),
        ("A= # comment", ""),
        ("A=https://host/#part?q=1", "https://host/#part?q=1"),
        ("A=x=y==", "x=y=="),
        ("A=it's", "it's"),
        ("A=$HOME ${B} `c` $(d)", "$HOME ${B} `c` $(d)"),
        (r"A=C:\new", r"C:\new"),
        ("A=a\u00a0b", "a\u00a0b"),
        ("A='b c # d'", "b c # d"),
        (r"A='a\nb\'", r"a\nb" + "\\"),
        ("A='two\nlines'", "two\nlines"),
        ("A='' # comment", ""),
        ('A="b c # d"  # comment', "b c # d"),
        (r'A="a\nb\tc\rd"', "a\nb\tc\rd"),
        (r'A="\"\\\$x"', '"\\$x'),
        (r'A="\w\'"', r"\w\'"),
        ('A="two\nlines"', "two\nlines"),
        ('A="$HOME"', "$HOME"),
    ],
)
def test_a_value(line: str, value: str) -> None:
    assert read(line) == {"A": value}
    assert read(f"\n# first\n{line}\nB=next\n") == {"A": value, "B": "next"}


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n  # comments", "   ", "\ufeff"])
def test_blank_lines_and_comments_set_nothing(text: str) -> None:
    assert read(text) == {}


def test_the_last_value_of_a_repeated_name_counts() -> None:
    assert read("A=1\nB=2\nA=3") == {"A": "3", "B": "2"}


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_it() -> None:
    assert read('\ufeffA=1\r\nB="2"\r\n') == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("A=1\nhidden\n", 2, "`=` is missing"),
        ("export hidden", 1, "`=` is missing"),
        ("\n\n1hidden=x", 3, "the name"),
        ("=hidden", 1, "the name"),
        ("hid-den=x", 1, "the name"),
        ("A='x\ny'\nB='hidden", 3, "the ' quote is not closed"),
        ('A="hidden\\"', 1, 'the " quote is not closed'),
        ("A='x'hidden", 1, "something follows"),
        ('# c\nA="x" hidden', 2, "something follows"),
        ("A=hidden\0", 1, "NUL"),
    ],
)
def test_an_error_names_the_line_and_keeps_the_value_to_itself(text: str, line: int, what: str) -> None:
    with pytest.raises(DotenvError, match=re.escape(what)) as caught:
        parse_dotenv(text)
    assert caught.value.line == line
    assert str(caught.value).startswith(f"line {line}: ")
    assert "hidden" not in str(caught.value)


def test_the_values_are_secrets() -> None:
    assert "hidden" not in repr(parse_dotenv("A=hidden"))


@given(st.dictionaries(st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True).filter(str.isascii), st.text()))
def test_what_is_written_in_double_quotes_is_read_again(variables: dict[str, str]) -> None:
    sound = {name: value.replace("\0", "").replace("\r", "") for name, value in variables.items()}

    def quote(value: str) -> str:
        return re.sub(r'[\\"$]', r"\\\g<0>", value).replace("\n", "\\n")

    assert read("".join(f'{name}="{quote(value)}"\n' for name, value in sound.items())) == sound


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DotenvError):
        parse_dotenv(text)


@given(st.lists(st.sampled_from(["A=1", "", "# c", "B='x\ny'"])))
def test_an_error_counts_all_lines_before_it(before: list[str]) -> None:
    text = "".join(f"{entry}\n" for entry in before)
    with pytest.raises(DotenvError) as caught:
        parse_dotenv(text + "nonsense")
    assert caught.value.line == text.count("\n") + 1

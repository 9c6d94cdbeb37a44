"""Each kind of entry of an environment file is taken, or left out with a note."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oz_agent_worker.worker.backends.direct.dotenv import MAX_LINES, MAX_TOTAL, MAX_VALUE, parse_dotenv

BEFORE = {"HOME": "/home/w", "EMPTY": "", "OZ_EXECUTION_MARK": "0123"}
MARK = "OZ_EXECUTION_MARK=0123"


def read(text: str) -> dict[str, str]:
    """The variables of a text in which everything is taken."""
    parsed = parse_dotenv(text, BEFORE, MARK)
    assert parsed.notes == []
    return {name: value for name, (_, value) in parsed.variables.items()}


def read_in_part(text: str) -> tuple[dict[str, str], list[str]]:
    """The variables of a text, and its notes."""
    parsed = parse_dotenv(text, BEFORE, MARK)
    return {name: value for name, (_, value) in parsed.variables.items()}, [str(n) for n in parsed.notes]


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
        ("A=`c` $(d) ${B:-e}", "`c` $(d) ${B:-e}"),
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
        # $A of earlier lines and of the setup command's environment
        ("A=$HOME/x", "/home/w/x"),
        ("A=${HOME}x", "/home/wx"),
        ('A="$HOME ${EMPTY}"', "/home/w "),
        ("A='$HOME'", "$HOME"),
        (r"A=\$HOME", "$HOME"),
        (r'A="\$HOME"', "$HOME"),
        ("A=$ $1 $$ $? cost$", "$ $1 $$ $? cost$"),
        # as YAML has it
        ("A: b", "b"),
        ("A:b", "b"),
        ("A: b: c # d", "b: c"),
        ('A: "$HOME"', "/home/w"),
        ("A:", ""),
        # what shells and their programs print
        ('declare -x A="b"', "b"),
        (r'declare -x A="\"\\\$\`"', '"\\$`'),
        ('declare -rx A="b"', "b"),
        ('declare -ix A="1"', "1"),
        ('typeset -x A="b"', "b"),
        (r"declare -x A=$'a\nb\001\303\251'", "a\nb\x01\xc3\xa9"),
        ("export A='it'\"'\"'s'", "it's"),
        ("export A='two\n\nlines'", "two\n\nlines"),
        ('declare -x A="two\nlines"', "two\nlines"),
        ("A=/tmp/agent.1; export A;", "/tmp/agent.1"),
        ("A='b c'; export A", "b c"),
        ('A="b";', "b"),
        # as GitHub's runner has it
        ("A<<END\nx=1\n $HOME 'y\nEND", "x=1\n $HOME 'y"),
        ("A<<END\nEND", ""),
        ("A<<ghadelimiter_1\n\n\nghadelimiter_1", "\n"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_value(line: str, value: str, end: str) -> None:
    text = f"\n# first\n{line}\nB=next\n".replace("\n", end)
    assert read(text) == {"A": value, "B": "next"}
    assert read(line) == {"A": value}


@pytest.mark.parametrize(
    "text",
    [
        "", "\n\n", "# only\n  # comments", "   ", "\xef\xbb\xbf", "\r\n\r\n",
        "declare -x A", "export A", "export A # comment", "declare -fx f", "export -f f",
    ],
)  # fmt: skip
def test_what_sets_nothing_is_no_error(text: str) -> None:
    assert read(text) == {}
    assert read(f"{text}\nB=next") == {"B": "next"}


def test_a_representation_shows_no_value() -> None:
    assert "hidden" not in repr(parse_dotenv("A=hidden\nB='hidden", {}))


def test_the_last_value_of_a_repeated_name_counts() -> None:
    assert read("A=1\nB=$A\nA=3\nC=$A") == {"A": "3", "B": "1", "C": "3"}


def test_windows_line_ends_and_a_byte_order_mark_are_no_part_of_it() -> None:
    assert read('\xef\xbb\xbfA=1\r\nB="2\r\n3"\r\n') == {"A": "1", "B": "2\n3"}


def test_a_carriage_return_inside_a_quote_of_another_file_stays() -> None:
    assert read("export A='1\r\n2\r'\n") == {"A": "1\r\n2\r"}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("hidden", "line 2: `=` is missing: left out"),
        ("hid-den=x", "line 2: the name before `=` is not a variable's name: left out"),
        ("=hidden", "line 2: the name before `=` is not a variable's name: left out"),
        ("hidden words = x", "line 2: the name before `=` is not a variable's name: left out"),
        ("A='hidden", "line 2: A: the ' quote is not closed: left out"),
        ('A="hidden\\"', 'line 2: A: the " quote is not closed: left out'),
        ("A=$'hidden", "line 2: A: the ' quote is not closed: left out"),
        ("A='x' hidden", "line 2: A: something follows the closing quote: left out"),
        ("A: 'x' hidden", "line 2: A: something follows the closing quote: left out"),
        (r"A=$'hidden\0'", "line 2: A: the value has a NUL character, which no variable can have: left out"),
        ("A<<END\nB=2", "line 2: the line that ends it is missing: left out"),
        ("export hidden words", "line 2: `=` is missing: left out"),
        ("12:30 hidden", "line 2: `=` is missing: left out"),
        ('declare -ax A=([0]="hidden")', "line 2: A: an array, which no environment has, is left out"),
        ("f () \n{ \n    A=hidden\n    {\n }\n}", "line 2: a function of the shell is left out"),
        ("function f() {\nA=hidden\n}", "line 2: a function of the shell is left out"),
        ("f() { hidden; }", "line 2: a function of the shell: left out"),
        (
            'declare -- A="hid\nden"\ndeclare -a B=([0]="x")',
            "line 4: 2 variable(s) of the shell that it does not export are left out",
        ),
        (
            "BASH_FUNC_f%%=() {  hidden\n",
            "line 2: the brace that closes a function is missing: left out",
        ),
    ],
)
def test_what_cannot_be_read_is_left_out_with_its_line_and_without_its_value(text: str, note: str) -> None:
    variables, notes = read_in_part(f"Y=1\n{text}\nZ=2\n")
    last = "line 5" if text.startswith("declare --") else note.partition(":")[0]
    assert notes == [re.sub("^line [0-9]+", last, note)]
    assert (variables.pop("Y"), variables.pop("Z")) == ("1", "2")
    assert "hidden" not in str(variables) + str(notes)


def test_a_name_without_a_value_is_empty_and_said() -> None:
    variables, notes = read_in_part("A=pa$sword\nB=\"${C}\"\nC='$none'\n")
    assert variables == {"A": "pa", "B": "", "C": "$none"}
    said = r"a variable in its value is not set and became empty; for a dollar sign write \$, or use single"
    said += " quotes"
    assert notes == [f"line 1: A: {said}", f"line 2: B: {said}"]


def test_an_entry_after_one_that_is_left_out_is_read_from_the_next_line() -> None:
    variables, notes = read_in_part('A="open\nB=1\nC="x" y\nD=2\n')
    assert variables == {"B": "1", "D": "2"}
    assert [note.partition(":")[0] for note in notes] == ["line 1", "line 3"]


# The output of env


def test_the_output_of_env_is_taken_as_it_is() -> None:
    text = f"""\
A='x' # $HOME "y"
{MARK}
HOME=/home/w
B=two
lines without a name
C=\\$
BASH_FUNC_f%%=() {{  A=1
 echo $HOME
}}
D=
_=/usr/bin/env
"""
    assert read(text) == {
        "A": "'x' # $HOME \"y\"",
        "OZ_EXECUTION_MARK": "0123",
        "HOME": "/home/w",
        "B": "two\nlines without a name",
        "C": "\\$",
        "BASH_FUNC_f%%": "() {  A=1\n echo $HOME\n}",
        "D": "",
        "_": "/usr/bin/env",
    }


def test_what_the_command_was_given_is_taken_whole_from_env() -> None:
    before = BEFORE | {"PEM": "-----BEGIN\nMII=\nABC=x\n-----END", "NL": "a\n"}
    text = f"PEM={before['PEM']}\nNL=a\n\n{MARK}\n# mine\nD: yaml\nexport E='e'\nF<<X\nf\nX\n"
    parsed = parse_dotenv(text, before, MARK)
    assert parsed.notes == []
    values = {name: value for name, (_, value) in parsed.variables.items()}
    assert values.pop("OZ_EXECUTION_MARK").startswith("0123")
    assert values == {"PEM": before["PEM"], "NL": "a\n", "D": "yaml", "E": "e", "F": "f"}


def test_without_the_mark_a_file_is_no_output_of_env() -> None:
    assert read("A='x'\nHOME=/home/w\n") == {"A": "x", "HOME": "/home/w"}
    assert read(f"A='x'\nBASH_VERSION='5'\n{MARK}\n")["A"] == "x"


def test_entries_that_end_with_a_nul_character_are_taken_as_they_are() -> None:
    text = "A='x'\nB=$HOME\0BASH_FUNC_f%%=() {  :\n}\0odd name=1\0C=\0"
    assert read(text) == {"A": "'x'\nB=$HOME", "BASH_FUNC_f%%": "() {  :\n}", "odd name": "1", "C": ""}
    assert read_in_part("A=1\n2\0hidden\0=x\0B=3\0") == (
        {"A": "1\n2", "B": "3"},
        ["line 2: `=` is missing: left out", "line 2: the name before `=` is empty: left out"],
    )


# Bounds


def test_a_value_that_no_program_can_be_started_with_is_left_out() -> None:
    fits = "x" * (MAX_VALUE - 1)
    variables, notes = read_in_part(f"A={fits}\nB={fits}y\nC=1\0".replace("\0", ""))
    assert variables == {"A": fits, "C": "1"}
    assert notes == [
        f"line 2: B: it is longer than {MAX_VALUE} bytes, which no program can be started with: left out"
    ]
    variables, notes = read_in_part(f"A={fits}\0B={fits}y\0")
    assert (list(variables), len(notes)) == (["A"], 1)


def test_references_to_references_do_not_grow_without_end() -> None:
    text = "A0=xxxxxxxxxx\n" + "".join(f"A{n + 1}=$A{n}$A{n}$A{n}$A{n}\n" for n in range(40))
    variables, notes = read_in_part(text)
    assert max(map(len, variables.values())) <= MAX_VALUE
    assert any("longer than" in note for note in notes)


@pytest.mark.parametrize("form", ["A{}=.$B\n", 'A{}=".$B"\n', "A{}=.$B$B\n", "export A{}=$B.\n"])
def test_many_values_that_refer_to_a_long_one_do_not_fill_the_memory(form: str) -> None:
    text = f"B={'x' * 60_000}\n" + "".join(form.format(n) for n in range(1000))
    variables, notes = read_in_part(text)
    assert sum(map(len, variables.values())) <= MAX_TOTAL
    assert len(variables) + len(notes) == 1001
    assert "with it the variables have more than 6291456 bytes" in notes[-1]
    assert "xx" not in notes[-1]


def test_all_variables_together_may_be_as_large_as_the_limit() -> None:
    """A later value of a name takes the place of the earlier one."""
    sizes = [100_000] * 62 + [MAX_TOTAL - 62 * 100_000]
    text = "".join(f"A{n}={'x' * size}\0" for n, size in enumerate(sizes))
    assert len(read(text)) == 63
    assert len(read(text + f"A0={'y' * 100_000}\0")) == 63
    variables, notes = read_in_part(f"{text}B=z\0A0=\0C=z\0")
    assert ("B" in variables, variables["A0"], variables["C"]) == (False, "", "z")
    assert len(notes) == 1


@pytest.mark.parametrize(
    "line",
    ["A", "A='", 'A="\\"', "A<<B", "f() {", "BASH_FUNC_f%%=() {", "A=$A$B", "declare -ax A=(", "", "A="],
)
def test_a_file_of_awkward_lines_is_read_in_a_moment(line: str) -> None:
    text = "".join(f"{line}{n}\n" if line == "A<<B" else f"{line}\n" for n in range(MAX_LINES + 10))
    before = time.process_time()
    _, notes = read_in_part(text)
    assert (
        time.process_time() - before < 30
    )  # an algorithm that goes over the rest for each line takes minutes
    if line:
        assert f"line {MAX_LINES + 1}: this line and those after it are left out" in notes[-1]


# Any text


@given(st.dictionaries(st.from_regex(r"[A-Za-z_]\w{0,8}", fullmatch=True).filter(str.isascii), st.text()))
def test_what_is_written_in_double_quotes_is_read_again(variables: dict[str, str]) -> None:
    sound = {
        n: v.replace("\0", "").replace("\r", "").encode().decode("latin-1") for n, v in variables.items()
    }

    def quote(value: str) -> str:
        return re.sub(r'[\\"$]', r"\\\g<0>", value).replace("\n", "\\n")

    assert read("".join(f'{name}="{quote(value)}"\n' for name, value in sound.items())) == sound


FRAGMENTS = st.sampled_from(
    ["A", "B", "=", ":", "'", '"', "$", "$'", "{", "}", "\\", "\n", "\r\n", "\0", "<<", "END", " ", "#",
     "export ", "declare -x ", "() {", "BASH_FUNC_f%%", MARK, ";", "("]
)  # fmt: skip


@given(st.one_of(st.text(st.characters(max_codepoint=255)), st.lists(FRAGMENTS).map("".join)))
def test_any_text_is_read(text: str) -> None:
    parsed = parse_dotenv(text, BEFORE, MARK)
    lines = text.count("\n") + 1
    assert all(1 <= line <= lines for line, _ in parsed.variables.values())
    assert all(1 <= note.line <= lines for note in parsed.notes)
    assert not any("\0" in value or "\0" in name for name, (_, value) in parsed.variables.items())


@given(st.lists(st.sampled_from(["A=1", "", "# c", "B='x\ny'", "C<<E\nc\nE"])))
def test_a_note_counts_all_lines_before_it(before: list[str]) -> None:
    text = "".join(f"{entry}\n" for entry in before)
    _, notes = read_in_part(text + "nonsense")
    assert notes == [f"line {text.count(chr(10)) + 1}: `=` is missing: left out"]

"""Words as shells quote them."""

import pytest

from oz_agent_worker.worker.backends.direct.quoting import QuoteError, expand, read_word

VARIABLES = {"A": "a value", "_b2": "b"}


def lookup(name: str) -> str:
    return VARIABLES.get(name, "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'a $A \\n'", r"a $A \n"),
        ('"$A ${_b2}x"', "a value bx"),
        (r'"\$A \\$A"', "$A \\a value"),
        (r'"a\nb\rc\td"', "a\nb\rc\td"),
        (r'"\`id\` \"x\" \w"', r'`id` "x" \w'),
        ('"joined \\\nlines"', "joined lines"),
        ('"`id` $(id) ${A:-x} $ $1 $$"', "`id` $(id) ${A:-x} $ $1 $$"),
        (r"$'a\nb\tc\'d\\e'", "a\nb\tc'd\\e"),
        (r"$'\a\b\e\E\f\v\"\?'", '\a\b\x1b\x1b\f\v"?'),
        (r"$'\1\12\1010\xe\x41\x4142\cA\cz'", "\1\nA0\x0eAA42\x01\x1a"),
        (r"$'\u41\u00e9\U1F600\303\251'", "A\xc3\xa9\xf0\x9f\x98\x80\xc3\xa9"),
        (r"$'\U110000 \q'", r"\U110000 \q"),
        ("$'$A'", "$A"),
        ("'it'\"'\"'s'", "it's"),
        (r"'it'\''s'", "it's"),
        ('"$A"/bin:$A:${_b2}', "a value/bin:a value:b"),
        ("''", ""),
    ],
)
@pytest.mark.parametrize("after", ["", " next", "\n", "\r\n", ";x", "\tx"])
def test_a_word_ends_where_a_shell_ends_it(text: str, value: str, after: str) -> None:
    assert read_word(f"=>{text}{after}", 2, lookup) == (value, 2 + len(text))


@pytest.mark.parametrize("text", ["'x", '"x', "$'x", '"x\\"', "$'x\\'", "'a'\"b", "'a'$'b"])
def test_a_quote_that_is_not_closed_is_an_error_without_the_value(text: str) -> None:
    with pytest.raises(QuoteError, match=r"^the ['\"] quote is not closed$"):
        read_word(text, 0, lookup)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A-${A}", "a value-a value"),
        (r"\$A \${A} C:\new", r"$A ${A} C:\new"),
        ("${A:-x} $(id) $ $1 $$ ${", "${A:-x} $(id) $ $1 $$ ${"),
        ("<$none>", "<>"),
    ],
)
def test_references_of_a_plain_value_are_expanded(text: str, value: str) -> None:
    assert expand(text, lookup) == value

"""YAML as the public worker reads it: the rules of Go's libraries on top of PyYAML.

PyYAML reads YAML 1.1: ``12:30`` is 750 there, ``0o17`` and ``1e3`` are strings, and tabs between
the tokens of a JSON file are an error. Go's libraries (gopkg.in/yaml.v3, resolve.go) read all of
these by YAML 1.2, and 017 as an octal number still.
"""

import re
from typing import Any, Final

import yaml

__all__ = ["Loader", "compose"]

_INT: Final = "tag:yaml.org,2002:int"
_FLOAT: Final = "tag:yaml.org,2002:float"
_VALUE: Final = "tag:yaml.org,2002:value"  # the plain scalar "=", for which PyYAML has no type
_OF_YAML_1_1: Final = (_INT, _FLOAT, _VALUE)
_INT_TEXT: Final = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
_FLOAT_TEXT: Final = re.compile(
    r"([-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"
)
_HALF: Final = re.compile("[\ud800-\udfff]")


class Loader(yaml.SafeLoader):
    """Composes and constructs with the numbers and the white space of Go's libraries."""

    yaml_implicit_resolvers = {  # noqa: RUF012  a class attribute of PyYAML
        first: [(tag, text) for tag, text in resolvers if tag not in _OF_YAML_1_1]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    flow_level: int
    allow_simple_key: bool

    def scan_to_next_token(self) -> None:
        """Skip white space and comments. A tab is white space where it indents nothing, as in libyaml."""
        super().scan_to_next_token()
        while self.peek() == "\t" and (self.flow_level or not self.allow_simple_key):
            self.forward()
            super().scan_to_next_token()

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose a node. An anchor may be given again: the alias is of the last one (YAML 1.2.2, 7.1)."""
        if not self.check_event(yaml.AliasEvent):
            event: yaml.NodeEvent = self.peek_event()  # type: ignore[no-untyped-call]
            self.anchors.pop(event.anchor, None)
        return super().compose_node(parent, index)

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        """Compose a scalar. JSON writes characters beyond U+FFFF as two escapes (RFC 8259, 7): join them.

        Raises:
            ComposerError: one half of such a pair is alone.
        """
        node = super().compose_scalar_node(anchor)
        if _HALF.search(node.value):
            try:
                node.value = node.value.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            except UnicodeDecodeError:
                half = "half of a surrogate pair (\\ud800 to \\udfff) without its other half"
                raise yaml.composer.ComposerError(None, None, half, node.start_mark) from None
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Construct a number in base 2, 8 (0o17 and 017), 10 or 16."""
        text = str(node.value).replace("_", "")
        digits = text.lstrip("+-")
        octal = len(digits) > 1 and digits.isdecimal() and digits[0] == "0"
        return int(text, 8 if octal else 0)


Loader.add_implicit_resolver(_INT, _INT_TEXT, list("-+0123456789"))
Loader.add_implicit_resolver(_FLOAT, _FLOAT_TEXT, list("-+.0123456789"))
Loader.add_constructor(_INT, Loader.construct_yaml_int)


def compose(content: str) -> tuple[yaml.Node | None, int | None]:
    """Compose the first document; ``None`` if there is none. The number is the line of a second one.

    What is in a second document is not looked at.

    Raises:
        yaml.YAMLError: the first document is not YAML.
    """
    loader = Loader(content)
    try:
        if not loader.check_node():
            return None, None
        node = loader.get_node()
        if loader.check_event(yaml.StreamEndEvent):
            return node, None
        mark: yaml.Mark = loader.peek_event().start_mark  # type: ignore[no-untyped-call]
        return node, mark.line + 1
    finally:
        loader.dispose()

"""The texts that follow from a source: values.yaml, values.schema.json and the table of values."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

import yaml

from scripts.docs.markdown import table

from .accepted import accepted_schema, template_schema
from .source import Value, values

__all__ = ["reference", "schema_json", "template_yaml", "values_yaml"]

_WIDTH: Final = 100
_INDENT: Final = "  "
_HEADER: Final = "# Written from values.schema.yaml by `make docs`: change it there.\n"
_OTHERS: Final = "Names"


def schema_json(source: Mapping[str, Any]) -> str:
    """values.schema.json."""
    return json.dumps(accepted_schema(source), indent=2, ensure_ascii=False) + "\n"


def template_yaml(source: Mapping[str, Any]) -> str:
    """files/schema.yaml, by which templates bring the values into form."""
    return f"{_HEADER}{_as_yaml(template_schema(source))}\n"


def values_yaml(source: Mapping[str, Any]) -> str:
    """values.yaml: each value's meaning as a comment, and its default."""
    return _HEADER + "\n".join(_yaml_lines(source, 0)) + "\n"


def _yaml_lines(source: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = _INDENT * depth
    for value in values(source):
        if depth == 0:
            yield ""
        yield from textwrap.wrap(
            value.description,
            _WIDTH,
            initial_indent=f"{indent}# ",
            subsequent_indent=f"{indent}# ",
            break_on_hyphens=False,
        )
        if value.is_group:
            yield f"{indent}{value.name}:"
            yield from _yaml_lines(value.schema, depth + 1)
        else:
            yield textwrap.indent(_as_yaml({value.name: value.schema["default"]}), indent)


def _as_yaml(data: Any) -> str:
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=_WIDTH)
    return text.rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key, and quotes texts that YAML would read as something else."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def represent_text(self, text: str) -> yaml.ScalarNode:
        # YAML reads a plain "" as null and a plain "true" as a boolean.
        plain = not text.startswith("{") and yaml.safe_load(text) == text
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Dumper.add_representer(str, _Dumper.represent_text)


def reference(source: Mapping[str, Any]) -> str:
    """The reference in Markdown: a heading and a table for each group, after the ungrouped values."""
    single = [value for value in values(source) if not value.is_group]
    parts = [f"### {_OTHERS}\n\n{_table(single)}"]
    for group in values(source):
        if group.is_group:
            below = values(group.schema, f"{group.path}.", deep=True)
            rows = [value for value in below if not value.is_group]
            parts.append(f"### {group.name}\n\n{group.description}\n\n{_table(rows)}")
    return "\n".join(parts)


def _table(rows: list[Value]) -> str:
    cells = [
        (
            f"`{row.path}`",
            f"`{json.dumps(row.schema['default'], ensure_ascii=False)}`",
            _allowed(row.schema),
            row.description,
        )
        for row in rows
    ]
    return table(("value", "default", "allowed", "meaning"), cells)


def _allowed(schema: Mapping[str, Any]) -> str:
    """Say in a few words what a schema allows."""
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "anyOf" in schema:
        return " or ".join(_allowed(choice) for choice in schema["anyOf"])
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return " or ".join(_kind(kind, schema) for kind in kinds)


def _kind(kind: str, schema: Mapping[str, Any]) -> str:
    match kind:
        case "array":
            return f"a list of: {_allowed(schema['items'])}"
        case "object" if isinstance(schema.get("additionalProperties"), dict):
            return f"a map to: {_allowed(schema['additionalProperties'])}"
        case "object" if "properties" in schema:
            return "{" + ", ".join(schema["properties"]) + "}"
        case "object":
            return "a map"
        case "integer":
            low, high = schema.get("minimum"), schema.get("maximum")
            if high is not None:
                return f"{low} to {high}"
            return "a whole number" if low is None else f"a whole number, {low} or more"
        case "boolean":
            return "true or false"
        case _:
            return "a string" if kind == "string" else kind

"""What a chart accepts in the place of its values, and what its templates make of that.

A values file need not name a type exactly. A number or a boolean where a string is meant is its text;
a string may hold a number or a boolean; null, and what is empty, counts as not given.
``accepted_schema`` is the JSON Schema of all that, ``template_schema`` is what the templates bring
the values into form by (``_values.tpl``): kind and default of each value, and which names there are.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

__all__ = ["accepted_schema", "may_be_null", "template_schema"]

_TEXT_OF_INTEGER: Final = "^(-?(0|[1-9][0-9]*))?$"
#: The words of YAML 1.1, which the worker's config file takes in quotes too.
_TEXT_OF_BOOLEAN: Final = "^([Tt]rue|[Ff]alse|[Yy]es|[Nn]o|[Oo]n|[Oo]ff|[YyNn])?$"
_TEXT_OF_NUMBER: Final = r"^([0-9]+(\.[0-9]+)?)?$"


def may_be_null(schema: Mapping[str, Any]) -> bool:
    """Whether null has a meaning of its own, and is not the same as the default."""
    kinds = schema.get("type")
    return isinstance(kinds, list) and "null" in kinds


# ----------------------------------------------------------------------------------- templates


def template_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A tree of values with ``kind``, ``default`` and what else templates need to know.

    ``blank``: "" is a text of its own. ``nullable``: null is no default. ``minimum``, ``maximum``: of a
    number that was given as a string, which the JSON Schema does not check.
    """
    node = _node(schema)
    if node["kind"] == "section" or "default" in schema:
        node["default"] = schema.get("default", {})
    if may_be_null(schema):
        node["nullable"] = True
    return node


def _node(schema: Mapping[str, Any]) -> dict[str, Any]:
    kind = _kind(schema)
    if "anyOf" in schema:
        # A secret's name, or {name}: the templates take either.
        return next((_node(choice) for choice in schema["anyOf"] if "properties" in choice), _text(schema))
    if "properties" in schema:
        below = {name: template_schema(value) for name, value in schema["properties"].items()}
        return {"kind": "section", "values": below}
    if kind == "array":
        return {"kind": "list", "of": _node(schema["items"])}
    if isinstance(schema.get("additionalProperties"), dict):
        return {"kind": "map", "of": _node(schema["additionalProperties"])}
    if kind == "object":
        return {"kind": "any"}
    if kind == "integer":
        return {"kind": "integer", **{key: schema[key] for key in ("minimum", "maximum") if key in schema}}
    if kind == "boolean":
        return {"kind": "boolean"}
    return {"kind": "text"} if kind == "number" else _text(schema)


def _text(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"kind": "text", **({"blank": True} if _takes(schema, "") else {})}


# --------------------------------------------------------------------------------- JSON Schema


def accepted_schema(schema: Mapping[str, Any], *, null: bool = True) -> dict[str, Any]:
    """The JSON Schema of all that is accepted.

    Names are not checked by it but by the templates, which can say which name is the nearest.
    """
    rest = {key: item for key, item in schema.items() if key not in _OF_ONE_TYPE}
    return {**rest, **_accepted(schema, ["null"] if null else [])}


#: What ``_accepted`` writes anew.
_OF_ONE_TYPE: Final = {
    "type", "properties", "additionalProperties", "items", "anyOf", "enum", "pattern", "minLength",
    "minimum", "maximum", "minItems",
}  # fmt: skip


def _accepted(schema: Mapping[str, Any], null: list[str]) -> dict[str, Any]:
    kind = _kind(schema)
    kept = {key: schema[key] for key in ("minimum", "maximum", "minItems") if key in schema}
    if "anyOf" in schema:
        choices = [
            accepted_schema(choice, null=bool(null)) for choice in schema["anyOf"] if "const" not in choice
        ]
        return choices[0] if len(choices) == 1 else {"anyOf": choices}
    if "enum" in schema:
        return {"enum": [*schema["enum"], "", None]}
    if "properties" in schema:
        required = schema.get("required", ())
        below = {
            name: accepted_schema(value, null=name not in required)
            for name, value in schema["properties"].items()
        }
        return {"type": ["object", *null], "properties": below}
    if kind == "array":
        items = accepted_schema(schema["items"])
        return {"anyOf": [{"type": ["array", *null], "items": items, **kept}, {"enum": ["", False, {}]}]}
    if kind == "object":
        inner = schema.get("additionalProperties")
        names = {"additionalProperties": accepted_schema(inner)} if isinstance(inner, dict) else {}
        return {"anyOf": [{"type": ["object", *null], **names}, {"enum": ["", False, []]}]}
    if kind in {"integer", "number"}:
        pattern = _TEXT_OF_INTEGER if kind == "integer" else _TEXT_OF_NUMBER
        return {"type": [kind, "string", *null], **kept, "pattern": pattern}
    if kind == "boolean":
        return {"type": ["boolean", "string", *null], "pattern": _TEXT_OF_BOOLEAN}
    return _accepted_text(schema, null)


def _accepted_text(schema: Mapping[str, Any], null: list[str]) -> dict[str, Any]:
    """A string, and the numbers and booleans whose text is allowed."""
    others = [
        kind
        for kind, sample in (("integer", "12"), ("number", "1.5"), ("boolean", "true"))
        if _takes(schema, sample)
    ]
    if "number" in others:
        others.remove("integer")
    pattern = schema.get("pattern")
    if pattern is not None and null and not _takes(schema, ""):
        pattern = f"^$|{pattern}"
    text = {"type": ["string", *others, *null], **({"pattern": pattern} if pattern else {})}
    if not null and "minLength" in schema:
        text["minLength"] = schema["minLength"]
    only_zero = "integer" not in others and "number" not in others and _takes(schema, "0")
    return {"anyOf": [text, {"const": 0}]} if only_zero else text


def _kind(schema: Mapping[str, Any]) -> str:
    """The one type besides null."""
    kinds = schema.get("type", "string")
    return str(kinds) if isinstance(kinds, str) else next(kind for kind in kinds if kind != "null")


def _takes(schema: Mapping[str, Any], text: str) -> bool:
    """Whether a schema of strings allows a text."""
    if "anyOf" in schema:
        return any(_takes(choice, text) for choice in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return text in schema.get("enum", [schema.get("const")])
    fits = len(text) >= schema.get("minLength", 0)
    return fits and re.search(schema.get("pattern", ""), text) is not None

"""What a chart's schema takes in the place of a value, and what its templates know of it."""

from typing import Any

import pytest

from scripts.chart_values.accepted import accepted_schema, may_be_null, template_schema

NULL = "null"
BOOLEAN = "^([Tt]rue|[Ff]alse|[Yy]es|[Nn]o|[Oo]n|[Oo]ff|[YyNn])?$"


@pytest.mark.parametrize(
    ("schema", "may"),
    [({"type": ["object", "null"]}, True), ({"type": "object"}, False), ({"enum": ["null"]}, False)],
)
def test_a_type_says_whether_null_means_something(schema: dict[str, Any], may: bool) -> None:
    assert may_be_null(schema) is may


@pytest.mark.parametrize(
    ("schema", "accepted"),
    [
        ({"type": "string"}, {"type": ["string", "number", "boolean", NULL]}),
        (
            {"type": "string", "pattern": "^[0-9]*$"},
            {"type": ["string", "integer", NULL], "pattern": "^[0-9]*$"},
        ),
        ({"type": "string", "pattern": "^/"}, {"type": ["string", NULL], "pattern": "^$|^/"}),
        (
            {"anyOf": [{"const": ""}, {"type": "string", "pattern": "^(0|[0-9]+s)$"}]},
            {"anyOf": [{"type": ["string", NULL], "pattern": "^$|^(0|[0-9]+s)$"}, {"const": 0}]},
        ),
        ({"enum": ["a", "b"]}, {"enum": ["a", "b", "", None]}),
        ({"type": "boolean"}, {"type": ["boolean", "string", NULL], "pattern": BOOLEAN}),
        (
            {"type": "integer", "minimum": 1, "maximum": 9},
            {
                "type": ["integer", "string", NULL],
                "minimum": 1,
                "maximum": 9,
                "pattern": "^(-?(0|[1-9][0-9]*))?$",
            },
        ),
        (
            {"type": "array", "items": {"enum": ["a"]}, "minItems": 1},
            {
                "anyOf": [
                    {"type": ["array", NULL], "items": {"enum": ["a", "", None]}, "minItems": 1},
                    {"enum": ["", False, {}]},
                ]
            },
        ),
        ({"type": "object"}, {"anyOf": [{"type": ["object", NULL]}, {"enum": ["", False, []]}]}),
        (
            {"type": ["object", NULL], "additionalProperties": {"enum": ["a"]}},
            {
                "anyOf": [
                    {"type": ["object", NULL], "additionalProperties": {"enum": ["a", "", None]}},
                    {"enum": ["", False, []]},
                ]
            },
        ),
        (
            {
                "type": "object",
                "required": ["name"],
                "additionalProperties": False,
                "properties": {"name": {"type": "string", "minLength": 1, "pattern": "^[a-z]"}},
                "description": "A variable.",
            },
            {
                "type": ["object", NULL],
                "required": ["name"],
                "properties": {"name": {"type": ["string", "boolean"], "minLength": 1, "pattern": "^[a-z]"}},
                "description": "A variable.",
            },
        ),
    ],
)
def test_a_type_stands_for_what_can_be_brought_into_its_form(
    schema: dict[str, Any], accepted: dict[str, Any]
) -> None:
    assert accepted_schema(schema) == accepted


@pytest.mark.parametrize(
    ("schema", "known"),
    [
        ({"type": "string", "default": "x"}, {"kind": "text", "blank": True, "default": "x"}),
        ({"type": "string", "minLength": 1}, {"kind": "text"}),
        ({"type": "number"}, {"kind": "text"}),
        ({"enum": ["a"], "default": "a"}, {"kind": "text", "default": "a"}),
        ({"type": "boolean", "default": False}, {"kind": "boolean", "default": False}),
        ({"type": [NULL, "integer"], "minimum": 0}, {"kind": "integer", "minimum": 0, "nullable": True}),
        ({"type": "object", "default": {}}, {"kind": "any", "default": {}}),
        (
            {"type": "object", "additionalProperties": {"type": "boolean"}},
            {"kind": "map", "of": {"kind": "boolean"}},
        ),
        (
            {"type": "object", "properties": {"a": {"type": "object", "properties": {}}}},
            {
                "kind": "section",
                "values": {"a": {"kind": "section", "values": {}, "default": {}}},
                "default": {},
            },
        ),
        (
            {
                "type": "array",
                "items": {
                    "anyOf": [
                        {"type": "string", "minLength": 1},
                        {"type": "object", "properties": {"name": {"type": "string", "minLength": 1}}},
                    ]
                },
            },
            {"kind": "list", "of": {"kind": "section", "values": {"name": {"kind": "text"}}}},
        ),
    ],
)  # fmt: skip
def test_the_templates_know_kind_and_default(schema: dict[str, Any], known: dict[str, Any]) -> None:
    assert template_schema(schema) == known

"""As much of JSON Schema 2020-12 as docs/check.schema.json uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}
_KNOWN = {
    "$defs", "$ref", "$schema", "additionalProperties", "anyOf", "description", "enum", "items",
    "maximum", "minItems", "minimum", "pattern", "properties", "required", "title", "type",
}  # fmt: skip


def faults(value: Any, schema: dict[str, Any], root: Any = None, at: str = "$") -> Iterator[str]:
    """What is wrong with a value, each with its place.

    @raise AssertionError: for a keyword that is not known here.
    """
    root = root or schema
    assert not set(schema) - _KNOWN, f"{at}: {set(schema) - _KNOWN}"
    if "$ref" in schema:
        yield from faults(value, root["$defs"][schema["$ref"].rpartition("/")[2]], root, at)
    if "anyOf" in schema and all(list(faults(value, s, root, at)) for s in schema["anyOf"]):
        yield f"{at}: none of anyOf"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if "type" in schema:
        names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        if not any(_isA(value, name) for name in names):
            yield f"{at}: {value!r} is not of type {names}"
    if isinstance(value, str) and not re.search(schema.get("pattern", ""), value):
        yield f"{at}: {value!r} is not like {schema['pattern']}"
    if _isA(value, "number"):
        least, most = schema.get("minimum", value), schema.get("maximum", value)
        yield from () if least <= value <= most else (f"{at}: {value} is out of range",)
    if isinstance(value, list):
        yield from _inArray(value, schema, root, at)
    if isinstance(value, dict):
        yield from _inObject(value, schema, root, at)


def _inArray(value: list[Any], schema: dict[str, Any], root: Any, at: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{at}: {len(value)} items"
    for number, item in enumerate(value):
        yield from faults(item, schema.get("items", {}), root, f"{at}[{number}]")


def _inObject(value: dict[str, Any], schema: dict[str, Any], root: Any, at: str) -> Iterator[str]:
    properties = schema.get("properties", {})
    yield from (f"{at}: no {name}" for name in schema.get("required", []) if name not in value)
    for name, item in value.items():
        if name in properties:
            yield from faults(item, properties[name], root, f"{at}.{name}")
        elif schema.get("additionalProperties") is False:
            yield f"{at}: {name} is not known"
        else:
            yield from faults(item, schema.get("additionalProperties", {}), root, f"{at}.{name}")


def _isA(value: Any, name: str) -> bool:
    if isinstance(value, bool):  # which is an int to Python
        return name == "boolean"
    return isinstance(value, _TYPES[name])

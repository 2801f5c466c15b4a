"""OpenAPI schemas of the kinds: check an object, prune what the schema does not know, say where each problem is."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from sandbox.apiserver.kinds import Object
from sandbox.apiserver.status import Cause

_CORE = "kubernetes-json-schema/v1.36.0-local/_definitions.json"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_MICRO_TIME = "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime"
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")


class Definitions:
    """Named schemas with references between them."""

    def __init__(self, schemas: Mapping[str, Object]) -> None:
        self.schemas = schemas

    def resolve(self, schema: Object) -> Object:
        """The schema that a `$ref` points to, or the schema itself."""
        reference = schema.get("$ref")
        return schema if reference is None else self.schemas.get(str(reference).rsplit("/", 1)[-1], {})

    def child(self, schema: Object, key: str) -> Object:
        """The schema of a property, unresolved (the merge keys stand beside the reference); {} when unknown."""
        found: Object = schema.get("properties", {}).get(key) or {}
        return found

    def items(self, schema: Object) -> Object:
        """The schema of a list's elements; {} when unknown."""
        return self.resolve(schema.get("items", {}))

    def closure(self, names: list[str]) -> dict[str, Object]:
        """The named schemas and all that they refer to."""
        found: dict[str, Object] = {}
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in found and name in self.schemas:
                found[name] = self.schemas[name]
                waiting.extend(_references(found[name]))
        return found


def _references(schema: object) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rsplit("/", 1)[-1]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)


def load() -> Definitions:
    """The built-in kinds' schemas (package kubernetes-validate) and Istio's (shipped here)."""
    core = json.loads(resources.files("kubernetes_validate").joinpath(_CORE).read_text())["$defs"]
    schemas: dict[str, Object] = {name: _without_null(schema) for name, schema in core.items()}
    schemas[_INT_OR_STRING] = {"x-kubernetes-int-or-string": True}
    istio = json.loads(resources.files(__package__).joinpath("schemas/istio.json").read_text())
    for kind in istio["kinds"]:
        area = kind["group"].removesuffix(".istio.io")
        schemas[f"io.istio.{area}.v1.{kind['kind']}"] = _with_metadata(kind["openAPIV3Schema"])
    return Definitions(schemas)


def printer_columns() -> dict[tuple[str, str], list[Object]]:
    """The additional printer columns of the custom resources, by (group, plural)."""
    istio = json.loads(resources.files(__package__).joinpath("schemas/istio.json").read_text())
    return {(kind["group"], kind["plural"]): kind["printerColumns"] for kind in istio["kinds"]}


def _without_null(schema: Any) -> Any:
    """The source types optional fields ["string", "null"]; nulls are dropped before the check, so "string" it is."""
    if isinstance(schema, list):
        return [_without_null(element) for element in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {key: _without_null(value) for key, value in schema.items()}
    kinds = plain.get("type")
    if isinstance(kinds, list):
        plain["type"] = next(kind for kind in kinds if kind != "null")
    return plain


def _with_metadata(schema: Object) -> Object:
    properties = {
        **schema["properties"],
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"$ref": f"#/$defs/{_OBJECT_META}"},
    }
    return {**schema, "properties": properties}


@dataclass
class Checked:
    """What a check found: the object without unknown fields, their paths, and the problems."""

    value: Any = None
    unknown: list[str] = field(default_factory=list)
    problems: list[Cause] = field(default_factory=list)


def check(value: Any, definition: str, definitions: Definitions) -> Checked:
    """Check an object against a named schema, without raising: the caller decides what unknown fields mean."""
    found = Checked()
    found.value = _Check(definitions, found).walk(value, {"$ref": definition}, "")
    return found


def has_rules(schema: object) -> bool:
    """Whether validation rules (CEL) stand in the schema. They are not evaluated here."""
    if isinstance(schema, dict):
        return "x-kubernetes-validations" in schema or any(has_rules(value) for value in schema.values())
    return isinstance(schema, list) and any(has_rules(value) for value in schema)


class _Check:
    def __init__(self, definitions: Definitions, found: Checked) -> None:
        self._definitions = definitions
        self._found = found

    def walk(self, value: Any, schema: Object, path: str) -> Any:
        schema = self._definitions.resolve(schema)
        if not schema or not self._has_type(value, schema, path):
            return value
        self._check_value(value, schema, path)
        if isinstance(value, dict):
            return self._object(value, schema, path)
        if isinstance(value, list) and "items" in schema:
            return [self.walk(element, schema["items"], f"{path}[{index}]") for index, element in enumerate(value)]
        return value

    def _problem(self, path: str, message: str, reason: str = "FieldValueInvalid") -> None:
        self._found.problems.append(Cause(path, message, reason))

    def _has_type(self, value: Any, schema: Object, path: str) -> bool:
        if value is None and schema.get("nullable"):
            return False
        expected = "integer" if schema.get("x-kubernetes-int-or-string") else schema.get("type")
        if schema.get("x-kubernetes-int-or-string") and isinstance(value, str):
            return True
        if expected is None or _is(value, str(expected)):
            return True
        shown = json.dumps(type_name(value))
        message = f"Invalid value: {shown}: {path} in body must be of type {expected}: {shown}"
        self._problem(path, message, "FieldValueTypeInvalid")
        return False

    def _check_value(self, value: Any, schema: Object, path: str) -> None:
        if "enum" in schema and value not in schema["enum"]:
            supported = ", ".join(json.dumps(option) for option in schema["enum"])
            message = f"Unsupported value: {json.dumps(value)}: supported values: {supported}"
            self._problem(path, message, "FieldValueNotSupported")
        if schema.get("format") == "date-time" and not _TIME.fullmatch(str(value)):
            micro = schema is self._definitions.schemas.get(_MICRO_TIME)
            layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
            message = f'parsing time {json.dumps(value)} as "{layout}": cannot parse {json.dumps(value)} as "2006"'
            self._problem(path, message, "FieldValueTypeInvalid")
        for wrong in _limits(value, schema):
            self._problem(path, f"Invalid value: {json.dumps(value)}: {path} in body {wrong}")
        for message in self._combinations(value, schema):
            self._problem(path, f'Invalid value: "": "{path}" {message}')

    def _combinations(self, value: Any, schema: Object) -> Iterator[str]:
        for rule in ("allOf", "anyOf", "oneOf"):
            options = schema.get(rule)
            if not options:
                continue
            valid = sum(self._accepts(value, option) for option in options)
            if rule == "allOf" and valid < len(options):
                yield "must validate all the schemas (allOf)"
            if rule == "anyOf" and not valid:
                yield "must validate at least one schema (anyOf)"
            if rule == "oneOf" and valid != 1:
                yield f"must validate one and only one schema (oneOf). Found {valid or 'none'} valid"
        if "not" in schema and self._accepts(value, schema["not"]):
            yield "must not validate the schema (not)"

    def _accepts(self, value: Any, schema: Object) -> bool:
        attempt = Checked()
        _Check(self._definitions, attempt).walk(value, schema, "")
        return not attempt.problems

    def _object(self, value: Object, schema: Object, path: str) -> Object:
        for name in schema.get("required", ()):
            if value.get(name) is None:
                self._problem(_join(path, name), "Required value", "FieldValueRequired")
        properties: Object = schema.get("properties", {})
        others = schema.get("additionalProperties")
        free = schema.get("x-kubernetes-preserve-unknown-fields") or (not properties and not isinstance(others, dict))
        kept: Object = {}
        for key, element in value.items():
            if key in properties:
                kept[key] = self.walk(element, properties[key], _join(path, key))
            elif isinstance(others, dict):
                kept[key] = self.walk(element, others, _join(path, key))
            elif free:
                kept[key] = element
            else:
                self._found.unknown.append(_join(path, key))
        return kept


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is(value: Any, expected: str) -> bool:
    if isinstance(value, bool):
        return expected == "boolean"
    if expected == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[expected])


def type_name(value: Any) -> str:
    """OpenAPI's name for the type of a JSON value."""
    if value is None:
        return "null"
    if isinstance(value, int) and not isinstance(value, bool):
        return "integer"
    return next(name for name in ("string", "boolean", "number", "object", "array") if isinstance(value, _TYPES[name]))


def _limits(value: Any, schema: Object) -> Iterator[str]:
    if isinstance(value, int | float):
        if "minimum" in schema and value < schema["minimum"]:
            yield f"should be greater than or equal to {schema['minimum']:g}"
        if "maximum" in schema and value > schema["maximum"]:
            yield f"should be less than or equal to {schema['maximum']:g}"
    if isinstance(value, str):
        yield from _length(len(value), schema, "Length", "chars long")
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"should match '{schema['pattern']}'"
    if isinstance(value, list):
        yield from _length(len(value), schema, "Items", "items")
    if isinstance(value, dict):
        yield from _length(len(value), schema, "Properties", "properties")


def _length(length: int, schema: Object, what: str, unit: str) -> Iterator[str]:
    if length < schema.get(f"min{what}", 0):
        yield f"should have at least {schema[f'min{what}']} {unit}"
    if length > schema.get(f"max{what}", length):
        yield f"should have at most {schema[f'max{what}']} {unit}"

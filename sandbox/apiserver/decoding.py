"""From a request's body to an object of a kind: is it one, does it fit the schema, what of it is unknown."""

from collections.abc import Sequence
from typing import Any

from sandbox.apiserver import lifecycle, schema, status
from sandbox.apiserver.kinds import Kind, Object, group_version
from sandbox.apiserver.status import ApiError, Cause

_UNCHECKED_RULES = Cause(
    "<nil>",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
)


class Decoder:
    """Checks bodies against the schemas of their kinds."""

    def __init__(self, definitions: schema.Definitions) -> None:
        self._definitions = definitions
        self._ruled = {name for name, found in definitions.schemas.items() if schema.has_rules(found)}

    def understood(self, kind: Kind, version: str, namespace: str | None, body: object) -> Object:
        """The body as an object of this kind in its stored version; built-in kinds may leave out what the path says.

        Raises:
            ApiError: 400 or 422 when it is something else, or meant for another version or namespace.
        """
        if not isinstance(body, dict) or not isinstance(body.get("metadata", {}), dict | None):
            raise status.bad_request(f"the object provided is unrecognized (must be of type {kind.name})")
        expected = group_version(kind.group, version)
        item = {**body} if kind.custom else {"apiVersion": expected, "kind": kind.name, **body}
        metadata = lifecycle.tidy_metadata(item.get("metadata") or {})
        if not item.get("kind"):
            raise status.bad_request(f"Object 'Kind' is missing in the {kind.name} that was sent")
        if item["kind"] != kind.name:
            raise _wrong_kind(kind, version, item["kind"], metadata.get("name", ""))
        if item.get("apiVersion") != expected:
            raise status.bad_request(
                f"the API version in the data ({item.get('apiVersion', '')}) "
                f"does not match the expected API version ({expected})"
            )
        if namespace is not None and metadata.get("namespace", namespace) != namespace:
            raise status.bad_request(
                "the namespace of the provided object does not match the namespace sent on the request"
            )
        return {**item, "apiVersion": kind.api_version, "metadata": metadata}

    def checked(self, kind: Kind, item: Object, field_validation: str) -> tuple[Object, tuple[str, ...]]:
        """The object without unknown fields, and the warnings that its writer should see.

        Raises:
            ApiError: 400 for a built-in kind with a wrong type, or unknown fields under Strict; 422 for other problems.
        """
        value = item if kind.custom else lifecycle.without_nulls(item)
        found = schema.check(value, kind.definition, self._definitions)
        unknown = [f'unknown field "{path}"' for path in found.unknown]
        if unknown and field_validation == "Strict":
            raise _not_decodable(kind, "strict decoding error: " + ", ".join(unknown))
        self._refuse_problems(kind, item, found.problems)
        warnings = () if field_validation == "Ignore" else tuple(unknown)
        return found.value, (*warnings, *_not_enforced(kind))

    def _refuse_problems(self, kind: Kind, item: Object, found: Sequence[Cause]) -> None:
        metadata = item["metadata"]
        problems = list(found)
        if not kind.custom and (wrong := [one for one in problems if one.reason == "FieldValueTypeInvalid"]):
            raise _not_decodable(kind, wrong[0].message)
        if not metadata.get("name") and not metadata.get("generateName"):
            text = "Required value: name or generateName is required"
            problems.insert(0, Cause("metadata.name", text, "FieldValueRequired"))
        if problems and kind.custom and kind.definition in self._ruled:
            problems.append(_UNCHECKED_RULES)
        if problems:
            raise status.invalid(kind.name, kind.group, metadata.get("name", ""), problems)

    def decoded(self, name: str, definition: str, body: Any) -> Object:
        """A body that is no object of a kind (options, scale, binding), checked and without unknown fields.

        Raises:
            ApiError: 400 when it does not fit its schema.
        """
        found = schema.check(lifecycle.without_nulls(body), definition, self._definitions)
        if found.problems:
            problem = found.problems[0]
            why = f"{problem.field}: {problem.message}"
            raise status.bad_request(f'{name} in version "v1" cannot be handled as a {name}: {why}')
        decoded: Object = found.value
        return decoded


def _not_enforced(kind: Kind) -> tuple[str, ...]:
    if not kind.not_enforced:
        return ()
    return (f"the sandbox stores {kind.group_resource} and does not enforce them: {kind.not_enforced}",)


def _wrong_kind(kind: Kind, version: str, found: str, name: str) -> ApiError:
    if kind.custom:
        cause = Cause("kind", f'Invalid value: "{found}": must be {kind.name}')
        return status.invalid(found, kind.group, name, [cause])
    return status.bad_request(f'{found} in version "{version}" cannot be handled as a {kind.name}: it is another kind')


def _not_decodable(kind: Kind, why: str) -> ApiError:
    return status.bad_request(f'{kind.name} in version "{kind.versions[0]}" cannot be handled as a {kind.name}: {why}')

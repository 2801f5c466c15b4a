"""The patch formats: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch (built-in kinds)."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import jsonpatch
from jsonpointer import JsonPointerException

from sandbox.apiserver.kinds import Object
from sandbox.apiserver.schema import Definitions
from sandbox.apiserver.status import bad_request, unprocessable_patch

_DIRECTIVE = "$patch"
_ORDER = "$setElementOrder/"
_DELETE_PRIMITIVES = "$deleteFromPrimitiveList/"
_RETAIN = "$retainKeys"


def json_patch(item: Object, operations: Any) -> Object:
    """The object after the operations; the original is untouched.

    Raises:
        ApiError: 400 for something that is no list of operations, 422 when a test fails or a path does not exist.
    """
    if not isinstance(operations, list):
        found = "object" if isinstance(operations, dict) else "value"
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {found} into Go value of type []handlers.jsonPatchOp"
        )
    try:
        patched: Object = jsonpatch.apply_patch(item, operations)
    except jsonpatch.InvalidJsonPatch as error:
        raise bad_request(f"error decoding patch: {error}") from error
    except (jsonpatch.JsonPatchException, JsonPointerException, TypeError) as error:
        raise unprocessable_patch() from error
    return patched


def merge_patch(item: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, null removes, everything else (lists too) is replaced."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    merged = dict(item) if isinstance(item, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def strategic_merge_patch(item: Object, patch: Object, definition: str, definitions: Definitions) -> Object:
    """Merge with the lists' merge keys from the OpenAPI definition, and the directives that kubectl sends.

    Raises:
        ApiError: 400 for a directive or list element that cannot be understood.
    """
    return _merge_object(item, patch, definitions.resolve({"$ref": definition}), definitions)


def _merge_object(item: Mapping[str, Any], patch: Object, schema: Object, definitions: Definitions) -> Object:
    if patch.get(_DIRECTIVE) == "replace":
        return {key: deepcopy(value) for key, value in patch.items() if key != _DIRECTIVE}
    merged = dict(item)
    for key, value in patch.items():
        if key.startswith("$"):
            continue
        if value is None or (isinstance(value, dict) and value.get(_DIRECTIVE) == "delete"):
            merged.pop(key, None)
        else:
            merged[key] = _merge_field(key, merged.get(key), value, patch, definitions.child(schema, key), definitions)
    for key in [key for key in patch if key.startswith(_DELETE_PRIMITIVES)]:
        name = key.removeprefix(_DELETE_PRIMITIVES)
        merged[name] = [value for value in merged.get(name, []) if value not in patch[key]]
    retained = patch.get(_RETAIN)
    return merged if retained is None else {key: value for key, value in merged.items() if key in retained}


def _merge_field(key: str, old: Any, new: Any, patch: Object, schema: Object, definitions: Definitions) -> Any:
    if isinstance(new, dict):
        return _merge_object(old if isinstance(old, dict) else {}, new, definitions.resolve(schema), definitions)
    if not isinstance(new, list) or "merge" not in str(schema.get("x-kubernetes-patch-strategy", "")).split(","):
        return deepcopy(new)
    merge_key = schema.get("x-kubernetes-patch-merge-key")
    order = patch.get(_ORDER + key)
    if merge_key is None:
        return _merge_primitives(old or [], new, order)
    return _merge_list(old or [], new, str(merge_key), order, definitions.items(schema), definitions)


def _merge_primitives(old: Sequence[Any], new: Sequence[Any], order: Sequence[Any] | None) -> list[Any]:
    ordered = list(order) if order is not None else list(new)
    present = [*new, *[value for value in old if value not in new]]
    return [value for value in ordered if value in present] + [value for value in present if value not in ordered]


def _merge_list(
    old: Sequence[Object],
    new: Sequence[Object],
    merge_key: str,
    order: Sequence[Object] | None,
    schema: Object,
    definitions: Definitions,
) -> list[Object]:
    """Elements with the same merge key are merged; those that the patch names come first, in the patch's order."""
    for element in new:
        named = isinstance(element, dict) and isinstance(element.get(merge_key), str | int)
        if not named and not (isinstance(element, dict) and _DIRECTIVE in element):
            raise bad_request(f"map: {element} does not contain declared merge key: {merge_key}")
    if any(element.get(_DIRECTIVE) == "replace" for element in new):
        return [deepcopy(element) for element in new if _DIRECTIVE not in element]
    by_key = {element.get(merge_key): element for element in old}
    for element in new:
        if element.get(_DIRECTIVE) == "delete":
            by_key.pop(element.get(merge_key), None)
        else:
            name = element[merge_key]
            by_key[name] = _merge_object(by_key.get(name, {}), element, schema, definitions)
    first = [element.get(merge_key) for element in (order if order is not None else new)]
    names = [name for name in first if name in by_key] + [name for name in by_key if name not in first]
    return [by_key[name] for name in names]

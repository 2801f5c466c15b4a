"""What a VirtualService says about a release, and the JSON patches that make it say something else. Pure.

A release owns three things in the object: the destination list of one named HTTP route, the probe routes directly in
front of it, and its record in the annotations. Each patch touches these alone and tests what it relies on, so that the
API server refuses it when somebody else was faster; everything else stays as its owner wrote it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sluice.cluster import destinationrule
from sluice.cluster.coordinates import Coordinates, Document, Operation, subset, version_of
from sluice.cluster.named_route import Route, check_weights, named_route, shape, weights_of
from sluice.errors import Ambiguous
from sluice.ports import RouteState
from sluice.release import PREFIX, Record, from_annotations, probed, to_annotations, weights

PROBE_HEADER = "x-sluice-probe"
"""Header of a probe; its value is `<role>-<token>`."""
PROBE_ROUTE = "sluice-"
"""Prefix of the probe routes' names; the role follows."""
IMPLICIT_WEIGHT = PREFIX + "implicit-weight"
"""Annotation: the only destination had no `weight` before the release, and shall have none after it."""

_MIRROR = {"mirror", "mirrorPercent", "mirror_percent", "mirrorPercentage", "mirrors"}
_NOT_COPIED = _MIRROR | {"name", "match", "route", "fault"}
"""Fields of the named route that its probe routes do not copy."""


def read(vs: Document, dr: Document, coordinates: Coordinates) -> RouteState:
    """The weights and the record. Raises Ambiguous, naming object, field and remedy, if they are not clear.

    Between releases the destinations alone say who has the traffic, so they must be in order. During a release the
    record says it: destinations that somebody edited are then reported as they are, and never stop the way back.
    """
    index, route = named_route(vs, coordinates)
    record = record_of(vs, coordinates)
    found = weights_of(route["route"])
    at_rest = record is None or record.closed
    if at_rest:
        check_weights(route["route"], f"{coordinates.where}: spec.http[{index}].route")
    destinationrule.check(dr, coordinates, found if at_rest else ())
    _check_probe_routes(vs, record, coordinates)
    metadata = vs["metadata"]
    return RouteState(found, record, metadata["uid"], metadata["resourceVersion"])


def write_patch(vs: Document, record: Record, coordinates: Coordinates) -> list[Operation]:
    """From `vs` to `desired`, if nobody wrote to the object meanwhile; empty if there is nothing to change."""
    metadata = vs["metadata"]
    tests = [
        _test("/metadata/uid", metadata["uid"]),
        _test("/metadata/resourceVersion", metadata["resourceVersion"]),
        *_route_tests(vs, coordinates),
    ]
    changes = _changes(vs, record, coordinates)
    return tests + changes if changes else []


def restore_patch(vs: Document, record: Record, coordinates: Coordinates) -> list[Operation]:
    """The same for the way back to last good, whatever else was written to the object meanwhile.

    It holds as long as the release, the annotations that it replaces and the destinations are as they were read.
    """
    present = vs["metadata"].get("annotations") or {}
    replaced = {key: present[key] for key, value in to_annotations(record).items() if present.get(key, value) != value}
    tests = [
        _test("/metadata/uid", vs["metadata"]["uid"]),
        *(_test(_annotation(key), value) for key, value in ({PREFIX + "release": record.release} | replaced).items()),
        *_route_tests(vs, coordinates),
    ]
    changes = _changes(vs, record, coordinates)
    return tests + changes if changes else []


def desired(vs: Document, record: Record, coordinates: Coordinates) -> dict[str, Any]:
    """The object that says what `record` means. Raises Ambiguous if the named route is not clear."""
    _, base = named_route(vs, coordinates)
    implicit = _is_weight_implicit(vs, base)
    annotations = dict(vs["metadata"].get("annotations") or {}) | to_annotations(record)
    annotations.pop(IMPLICIT_WEIGHT, None)
    if implicit:
        annotations[IMPLICIT_WEIGHT] = "true"
    http: list[Any] = []
    for route in vs["spec"]["http"]:
        if route is base:
            http += [*_probe_routes(base, record), {**base, "route": _destinations(base, weights(record), implicit)}]
        elif not _is_probe_route(route):
            http.append(route)
    return {
        **vs,
        "metadata": {**vs["metadata"], "annotations": annotations},
        "spec": {**vs["spec"], "http": http},
    }


def named_versions(vs: Document, coordinates: Coordinates) -> set[str]:
    """Versions whose subset any route of the object names."""
    return {
        version
        for part in _mappings(vs["spec"])
        if isinstance(part.get("subset"), str) and coordinates.is_host(str(part.get("host", coordinates.host)))
        for version in [version_of(part["subset"])]
        if version is not None
    }


# --- reading ---------------------------------------------------------------------------------------------------------


def record_of(vs: Document, coordinates: Coordinates) -> Record | None:
    """The record alone. Raises Ambiguous if a person has damaged it."""
    return from_annotations(vs["metadata"].get("annotations") or {}, coordinates.where)


def _check_probe_routes(vs: Document, record: Record | None, coordinates: Coordinates) -> None:
    explained = {PROBE_ROUTE + role for role in (probed(record) if record else {})} | {coordinates.route}
    for index, route in enumerate(vs["spec"]["http"]):
        name = str(route.get("name", ""))
        if name.startswith(PROBE_ROUTE) and name not in explained:
            raise Ambiguous(
                f"{coordinates.where}: spec.http[{index}] is named {name}, but no open release has such a route; "
                f"remove or rename it: names that begin with {PROBE_ROUTE} are a release's own"
            )


# --- writing ---------------------------------------------------------------------------------------------------------


def _destination(route: Route, version: str, weight: int | None) -> dict[str, Any]:
    kept = shape(route["route"][0])
    entry = kept | {"destination": kept["destination"] | {"subset": subset(version)}}
    return entry if weight is None else entry | {"weight": weight}


def _destinations(route: Route, shares: Mapping[str, int], implicit: bool) -> list[dict[str, Any]]:
    bare = implicit and len(shares) == 1
    return [_destination(route, version, None if bare else weight) for version, weight in shares.items()]


def _is_weight_implicit(vs: Document, base: Route) -> bool:
    """One destination shows it by itself; for two, the annotation remembers it."""
    if len(base["route"]) == 1:
        return "weight" not in base["route"][0]
    return IMPLICIT_WEIGHT in (vs["metadata"].get("annotations") or {})


def _probe_routes(base: Route, record: Record) -> list[dict[str, Any]]:
    """Copies of the named route without what would touch others' requests or spoil the answers (mirror, fault)."""
    copied = {key: value for key, value in base.items() if key not in _NOT_COPIED}
    return [
        {
            "name": PROBE_ROUTE + role,
            "match": _probe_match(base.get("match") or [{}], f"{role}-{record.token}"),
            "route": [_destination(base, version, 100)],
            **copied,
        }
        for role, version in probed(record).items()
    ]


def _probe_match(matches: Sequence[Mapping[str, Any]], value: str) -> list[dict[str, Any]]:
    return [{**match, "headers": {**(match.get("headers") or {}), PROBE_HEADER: {"exact": value}}} for match in matches]


def _is_probe_route(route: Route) -> bool:
    return route.get("name") in {PROBE_ROUTE + "canary", PROBE_ROUTE + "stable"}


def _changes(vs: Document, record: Record, coordinates: Coordinates) -> list[Operation]:
    want = desired(vs, record, coordinates)
    now = vs["metadata"].get("annotations")
    return [
        *_annotation_changes(now, want["metadata"]["annotations"]),
        *_route_changes(vs["spec"]["http"], want["spec"]["http"], coordinates.route),
    ]


def _annotation_changes(now: Mapping[str, str] | None, want: Mapping[str, str]) -> list[Operation]:
    if now is None:
        return [{"op": "add", "path": "/metadata/annotations", "value": dict(want)}]
    changed = {key: value for key, value in want.items() if now.get(key) != value}
    return [
        *({"op": "add", "path": _annotation(key), "value": value} for key, value in changed.items()),
        *({"op": "remove", "path": _annotation(key)} for key in now if key not in want),
    ]


def _route_changes(now: Sequence[Route], want: Sequence[Route], base: str) -> list[Operation]:
    """Routes that stay where they are are changed in place; else the probe routes are taken out and put in again."""
    index = _index(now, base)
    operations: list[Operation] = []
    if now[index] != want[_index(want, base)]:
        operations.append(
            {"op": "replace", "path": f"/spec/http/{index}/route", "value": want[_index(want, base)]["route"]}
        )
    if [route.get("name") for route in now] == [route.get("name") for route in want]:
        pairs = [(at, new) for at, (old, new) in enumerate(zip(now, want, strict=True)) if old != new and at != index]
        return [
            *(_test(f"/spec/http/{at}/name", new["name"]) for at, new in pairs),
            *operations,
            *({"op": "replace", "path": f"/spec/http/{at}", "value": new} for at, new in pairs),
        ]
    old = [at for at, route in enumerate(now) if _is_probe_route(route)]
    first = index - sum(at < index for at in old)
    new = [route for route in want if _is_probe_route(route)]
    return [
        *(_test(f"/spec/http/{at}/name", now[at]["name"]) for at in old),
        *operations,
        *({"op": "remove", "path": f"/spec/http/{at}"} for at in reversed(old)),
        *({"op": "add", "path": f"/spec/http/{first + n}", "value": route} for n, route in enumerate(new)),
    ]


def _index(routes: Sequence[Route], name: str) -> int:
    return next(index for index, route in enumerate(routes) if route.get("name") == name)


def _route_tests(vs: Document, coordinates: Coordinates) -> list[Operation]:
    index, route = named_route(vs, coordinates)
    return [
        _test(f"/spec/http/{index}/name", coordinates.route),
        _test(f"/spec/http/{index}/route", route["route"]),
    ]


def _test(path: str, value: Any) -> Operation:
    return {"op": "test", "path": path, "value": value}


def _annotation(key: str) -> str:
    return "/metadata/annotations/" + key.replace("~", "~0").replace("/", "~1")


def _mappings(value: Any) -> list[Mapping[str, Any]]:
    """All objects inside `value`, at any depth."""
    if isinstance(value, Mapping):
        return [value, *(part for child in value.values() for part in _mappings(child))]
    return [part for child in value for part in _mappings(child)] if isinstance(value, list) else []

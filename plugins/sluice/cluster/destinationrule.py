"""The subsets of versions in a DestinationRule: which are there, and the JSON patches that add and remove them. Pure.

A release owns the subsets named `v-…`; all others, and all other fields, stay as their owner wrote them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sluice.cluster.coordinates import Coordinates, Document, Operation, subset, version_of
from sluice.errors import Ambiguous


def check(dr: Document, coordinates: Coordinates, versions: Collection[str]) -> None:
    """Raises Ambiguous if the rule is another host's, or the subset of one of `versions` selects another version."""
    where = f"DestinationRule {coordinates.namespace}/{coordinates.destination_rule}"
    host = dr["spec"].get("host", "")
    if not coordinates.is_host(host):
        raise Ambiguous(
            f"{where}: spec.host is {host}, not {coordinates.host}; name the rule of that host in the policy"
        )
    for index, entry in enumerate(_subsets(dr)):
        version = version_of(entry["name"])
        labelled = _labels(entry).get("version")
        if version in versions and labelled != version:
            raise Ambiguous(
                f"{where}: spec.subsets[{index}] is named {entry['name']} but selects version {labelled}; "
                f"make its label version: {version}"
            )


def add_patch(dr: Document, versions: Collection[str]) -> list[Operation]:
    """Defines the subsets of `versions`; empty if all are there."""
    present = {entry["name"]: index for index, entry in enumerate(_subsets(dr))}
    operations: list[Operation] = []
    for version in versions:
        index = present.get(subset(version))
        if index is None:
            added = {"name": subset(version), "labels": {"version": version}}
            operations.append({"op": "add", "path": "/spec/subsets/-", "value": added})
        elif _labels(_subsets(dr)[index]).get("version") != version:
            labels = _labels(_subsets(dr)[index]) | {"version": version}
            operations.append({"op": "add", "path": f"/spec/subsets/{index}/labels", "value": labels})
    if operations and "subsets" not in dr["spec"]:
        operations.insert(0, {"op": "add", "path": "/spec/subsets", "value": []})
    return _unchanged_since(dr) + operations if operations else []


def sweep_patch(dr: Document, keep: Collection[str]) -> list[Operation]:
    """Removes the subsets of all versions that are not in `keep`; empty if there are none."""
    swept = [
        index
        for index, entry in enumerate(_subsets(dr))
        for version in [version_of(entry["name"])]
        if version is not None and version not in keep
    ]
    removals: list[Operation] = [{"op": "remove", "path": f"/spec/subsets/{index}"} for index in reversed(swept)]
    return _unchanged_since(dr) + removals if removals else []


def _subsets(dr: Document) -> list[dict[str, Any]]:
    return dr["spec"].get("subsets") or []


def _labels(entry: dict[str, Any]) -> dict[str, str]:
    return entry.get("labels") or {}


def _unchanged_since(dr: Document) -> list[Operation]:
    """Places in the list are only right for the object as it was read."""
    return [
        {"op": "test", "path": f"/metadata/{field}", "value": dr["metadata"][field]}
        for field in ("uid", "resourceVersion")
    ]

"""Subsets of versions come before their use and go after it; all else in a DestinationRule is its owner's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonpatch import JsonPatchTestFailed

from sluice.cluster.destinationrule import add_patch, sweep_patch
from tests.unit.cluster.virtualservices import NEW, OLD, patched, rule, touched, version

VERSIONS = st.sampled_from(["none", OLD, NEW, "77aa"])
FOREIGN: dict[str, Any] = {
    "name": "stable",
    "labels": {"track": "stable"},
    "trafficPolicy": {"tls": {"mode": "DISABLE"}},
}
SUBSETS = st.lists(VERSIONS.map(version) | st.just(FOREIGN), max_size=4, unique_by=lambda subset: subset["name"])


def named(document: dict[str, Any]) -> list[str]:
    return [subset["name"] for subset in document["spec"].get("subsets", [])]


@settings(deadline=None)
@given(SUBSETS, st.sets(VERSIONS))
def test_missing_subsets_are_added_behind_the_others(subsets: list[dict[str, Any]], wanted: set[str]) -> None:
    before = rule(*subsets)
    after = patched(before, add_patch(before, sorted(wanted)))
    assert after["spec"]["subsets"][: len(subsets)] == subsets
    assert named(after)[len(subsets) :] == [f"v-{name}" for name in sorted(wanted) if f"v-{name}" not in named(before)]
    assert add_patch(after, wanted) == []


@settings(deadline=None)
@given(SUBSETS, st.sets(VERSIONS))
def test_only_versions_that_nobody_keeps_are_swept(subsets: list[dict[str, Any]], keep: set[str]) -> None:
    before = rule(*subsets)
    after = patched(before, sweep_patch(before, keep))
    kept = ["stable", *(f"v-{name}" for name in keep)]
    assert after["spec"] == {**before["spec"], "subsets": [s for s in subsets if s["name"] in kept]}
    assert sweep_patch(after, keep) == []


def test_a_rule_without_subsets_gets_its_first() -> None:
    before = rule()
    del before["spec"]["subsets"]
    assert patched(before, add_patch(before, ["none"]))["spec"]["subsets"] == [version("none")]


def test_a_damaged_label_is_put_right_and_the_rest_of_the_subset_stays() -> None:
    before = rule({"name": f"v-{NEW}", "labels": {"version": OLD, "gpu": "a10"}, "trafficPolicy": {}})
    after = patched(before, add_patch(before, [NEW]))
    assert after["spec"]["subsets"] == [
        {"name": f"v-{NEW}", "labels": {"version": NEW, "gpu": "a10"}, "trafficPolicy": {}},
    ]


@pytest.mark.parametrize("plan", [add_patch, sweep_patch])
def test_a_rule_that_somebody_else_touched_is_not_written(plan: Any) -> None:
    before = rule(version("77aa"))
    with pytest.raises(JsonPatchTestFailed):
        patched(touched(before), plan(before, [OLD]))

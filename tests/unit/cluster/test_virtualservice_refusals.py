"""What a VirtualService may not say, and what the user reads then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sluice import release
from sluice.cluster.virtualservice import read, restore_patch, write_patch
from sluice.errors import Ambiguous
from tests.unit.cluster.virtualservices import MODEL, NEW, OLD, begun, patched, rule, version

RULE = rule(version(OLD), version(NEW))
Document = dict[str, Any]


def destination(subset: str | None, weight: int | None = None, **fields: Any) -> Document:
    entry: Document = {"destination": {"host": "model", **fields}}
    if subset is not None:
        entry["destination"]["subset"] = subset
    return entry if weight is None else entry | {"weight": weight}


def virtual_service(*destinations: Document, **route: Any) -> Document:
    named = {"name": "primary", "route": [*destinations] or [destination(f"v-{OLD}", 100)], **route}
    return {
        "metadata": {"name": "model", "namespace": "ai", "uid": "u", "resourceVersion": "1"},
        "spec": {"gateways": ["ingress", "mesh"], "http": [{"redirect": {"uri": "/"}}, named]},
    }


def spec(**fields: Any) -> Document:
    document = virtual_service()
    document["spec"] |= fields
    return document


def annotated(**annotations: str) -> Document:
    document = virtual_service()
    document["metadata"]["annotations"] = {f"sluice.dev/{key.replace('_', '-')}": v for key, v in annotations.items()}
    return document


BASE = virtual_service()["spec"]["http"][1]
PROBE = {"name": "sluice-canary", "route": [destination(f"v-{NEW}")]}
REFUSED = {
    "no http route": (spec(http=[]), "no http route is named primary (spec.http has: none)"),
    "not named": (spec(http=[{"name": "other"}, {}]), "spec.http has: other, (unnamed)"),
    "named twice": (spec(http=[BASE, BASE]), "2 http routes are named primary"),
    "tcp only": (spec(http=None, tcp=[{}]), "tcp or tls routes only"),
    "gateway only": (spec(gateways=["ingress"]), "spec.gateways is ['ingress']"),
    "mesh only": (spec(gateways=["mesh"]), "spec.gateways is ['mesh']"),
    "gateways left out": (spec(gateways=None), "spec.gateways is ['mesh']"),
    "delegate": (virtual_service(delegate={"name": "x"}), "spec.http[1].delegate"),
    "no destinations": (virtual_service(route=[]), "spec.http[1].route: no destinations"),
    "other host": (virtual_service(destination("v-a", 100, host="db")), "route[0].destination.host is db, not model"),
    "other namespace's": (virtual_service(destination("v-a", host="model.x.svc.cluster.local")), "host is model.x"),
    "no subset": (virtual_service(destination(None, 100)), "spec.http[1].route[0] has no subset"),
    "role as subset": (virtual_service(destination("stable", 100)), "has the subset stable"),
    "subset without version": (virtual_service(destination("v-", 100)), "has the subset v-"),
    "subset twice": (virtual_service(destination("v-a", 50), destination("v-a", 50)), "names the subset v-a again"),
    "not 100": (
        virtual_service(destination(f"v-{OLD}", 90), destination(f"v-{NEW}", 5)),
        "do not make 100; correct them",
    ),
    "negative": (virtual_service(destination("v-a", -1), destination("v-b", 101)), "do not make 100"),
    "two without weights": (virtual_service(destination("v-a"), destination("v-b")), "(a 0, b 0) do not make 100"),
    "ports differ": (
        virtual_service(destination("v-a", 50, port={"number": 1}), destination("v-b", 50)),
        "route[1] differs from route[0]",
    ),
    "record damaged": (annotated(release="r1", phase="shifted"), "do not make a release record"),
    "orphaned probe route": (spec(http=[PROBE, BASE]), "spec.http[0] is named sluice-canary"),
}


@pytest.mark.parametrize(("document", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_an_object_that_is_not_clear_is_refused_by_name_and_field(document: Document, words: str) -> None:
    with pytest.raises(Ambiguous) as refused:
        read(document, RULE, MODEL)
    assert str(refused.value).startswith("VirtualService ai/model: ")
    assert words in str(refused.value)


def test_a_subset_that_selects_another_version_is_refused() -> None:
    wrong = rule({"name": f"v-{OLD}", "labels": {"version": NEW}})
    with pytest.raises(Ambiguous, match=rf"DestinationRule ai/model: spec.subsets\[0\] .* label version: {OLD}"):
        read(virtual_service(), wrong, MODEL)


def test_the_rule_of_another_host_is_refused() -> None:
    other = rule()
    other["spec"]["host"] = "other"
    with pytest.raises(Ambiguous, match=r"spec\.host is other, not model"):
        read(virtual_service(), other, MODEL)


def test_a_probe_route_of_a_closed_release_is_refused() -> None:
    closed = release.closed(release.rolled_back(begun(), "aborted"))
    document = spec(http=[PROBE, BASE])
    document["metadata"]["annotations"] = release.to_annotations(closed)
    with pytest.raises(Ambiguous, match="no open release has such a route"):
        read(document, RULE, MODEL)


@pytest.mark.parametrize("host", ["model", "model.ai.svc.cluster.local"])
def test_a_host_may_be_spelled_short_or_in_full(host: str) -> None:
    where = replace(MODEL, host=host)
    for spelled in ("model", "model.ai.svc.cluster.local"):
        assert read(virtual_service(destination(f"v-{OLD}", host=spelled)), RULE, where).weights == {OLD: 100}


def test_a_single_destination_without_weight_has_all_traffic() -> None:
    assert read(virtual_service(destination(f"v-{OLD}")), RULE, MODEL).weights == {OLD: 100}


def test_weights_are_reported_as_written() -> None:
    split = virtual_service(destination(f"v-{OLD}", 70), destination(f"v-{NEW}", 30))
    assert read(split, RULE, MODEL).weights == {OLD: 70, NEW: 30}


EDITS: dict[str, Callable[[Document], object]] = {
    "weights that do not make 100": lambda route: route["route"][1].update(weight=7),
    "a subset gone": lambda route: route["route"][1]["destination"].pop("subset"),
    "a subset that is no version's": lambda route: route["route"][0]["destination"].update(subset="stable"),
    "a destination twice": lambda route: route["route"].append(route["route"][0]),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_weights_that_make_no_sense_do_not_stop_the_way_back(edit: Callable[[Document], object]) -> None:
    shifted = release.shifted(release.examined(begun()), 0)
    state = patched(virtual_service(), write_patch(virtual_service(), shifted, MODEL))
    edit(state["spec"]["http"][-1])
    assert read(state, RULE, MODEL).weights != {OLD: 95, NEW: 5}
    after = patched(state, restore_patch(state, release.rolled_back(shifted, "slow"), MODEL))
    assert read(after, RULE, MODEL).weights == {OLD: 100}

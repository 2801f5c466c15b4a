"""The server's pure rules: selectors, patches, schemas, tables, garbage."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.apiserver import garbage, patching, schema, tables
from sandbox.apiserver.kinds import KINDS, POD, Kind, Object
from sandbox.apiserver.selectors import parse_labels, selection
from sandbox.apiserver.status import ApiError
from tests.contract.kubernetes_api.objects import config_map, virtual_service

DEFINITIONS = schema.load()
BY_NAME: dict[str, Kind] = {kind.name: kind for kind in KINDS}
JSON_VALUES = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)
JSON_OBJECTS = st.dictionaries(st.text(max_size=2), JSON_VALUES, max_size=4)


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        ("a=1", {"a": "1"}, True),
        ("a==1,b!=2", {"a": "1"}, True),
        ("a!=1", {"a": "1"}, False),
        ("a in (1, 2)", {"a": "2"}, True),
        ("a notin (1,2)", {}, True),
        ("a,!b", {"a": ""}, True),
        ("!a", {"a": ""}, False),
        ("n>3", {"n": "10"}, True),
        ("n<3", {"n": "x"}, False),
        ("", {}, True),
    ],
)
def test_label_selectors(selector: str, labels: dict[str, str], selected: bool) -> None:
    assert selection(POD, None, selector, "")({"metadata": {"labels": labels}}) is selected


@pytest.mark.parametrize("selector", ["a=b=c", "a in b", "a in (b", "(", "a b", "n>x", "!"])
def test_what_is_no_label_selector_is_refused(selector: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels(selector)
    assert caught.value.code == 400


@given(JSON_OBJECTS, JSON_OBJECTS)
def test_a_merge_patch_is_idempotent_and_changes_no_argument(item: Object, patch: Object) -> None:
    before = json.dumps([item, patch])
    once = patching.merge_patch(item, patch)
    assert patching.merge_patch(once, patch) == once
    assert json.dumps([item, patch]) == before


@given(JSON_OBJECTS)
def test_a_merge_patch_by_nulls_empties_the_object(item: Object) -> None:
    assert patching.merge_patch(item, dict.fromkeys(item)) == {}


@given(st.lists(st.sampled_from("abcd"), unique=True), st.lists(st.sampled_from("abcd"), unique=True))
def test_a_strategic_merge_keeps_what_only_the_object_has(old: list[str], new: list[str]) -> None:
    def pod(names: list[str]) -> Object:
        return {"spec": {"containers": [{"name": name, "image": "i"} for name in names]}}

    merged = patching.strategic_merge_patch(pod(old), pod(new), POD.definition, DEFINITIONS)
    names = [one["name"] for one in merged["spec"]["containers"]]
    assert names == [*new, *[name for name in old if name not in new]]


def test_a_schema_check_prunes_and_names_unknown_fields_wherever_they_are() -> None:
    item: dict[str, Any] = virtual_service()
    item["spec"]["http"][0]["route"][0]["destination"]["portt"] = 1
    found = schema.check(item, BY_NAME["VirtualService"].definition, DEFINITIONS)
    assert found.unknown == ["spec.http[0].route[0].destination.portt"]
    assert found.value == virtual_service()


@pytest.mark.parametrize(
    ("simple", "problem"), [("ROUND_ROBIN", False), ("SOMETIMES", True)], ids=["of the enumeration", "not of it"]
)
def test_a_schema_check_follows_alternatives(simple: str, problem: bool) -> None:
    policy = {"loadBalancer": {"simple": simple}}
    item = {"metadata": {"name": "x"}, "spec": {"host": "h", "trafficPolicy": policy}}
    found = schema.check(item, BY_NAME["DestinationRule"].definition, DEFINITIONS)
    assert bool(found.problems) is problem


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (121, "2m1s"),
        (3600, "60m"),
        (10800, "3h"),
        (18060, "5h1m"),
        (172800, "2d"),
    ],
)
def test_ages_read_as_kubectl_prints_them(seconds: int, text: str) -> None:
    assert tables.duration(seconds) == text


def owned(name: str, *owners: str, **metadata: Any) -> tuple[Kind, Object]:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": owner, "blockOwnerDeletion": True}
        for owner in owners
    ]
    own = {"ownerReferences": references} if references else {}
    return BY_NAME["ConfigMap"], config_map(name, uid=name, namespace="n", **own, **metadata)


def steps(*objects: tuple[Kind, Object]) -> list[tuple[str, str]]:
    return [(step.verb, step.name) for step in garbage.next_steps(objects)]


def test_a_dependent_stays_while_one_owner_does() -> None:
    assert steps(owned("a"), owned("dependent", "a", "gone")) == []
    assert steps(owned("dependent", "gone")) == [("delete", "dependent")]


def test_foreground_deletion_goes_from_the_leaves_to_the_root() -> None:
    going = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["foregroundDeletion"]}
    root = owned("root", **going)
    assert steps(root, owned("leaf", "root")) == [("delete", "leaf")]
    assert steps(root, owned("branch", "root"), owned("leaf", "branch")) == [("delete foreground", "branch")]
    assert steps(root) == [("drop finalizer", "root")]


def test_an_owner_of_an_unknown_kind_is_not_taken_for_gone() -> None:
    kind, item = owned("dependent", "x")
    item["metadata"]["ownerReferences"][0]["kind"] = "Unheard"
    assert steps((kind, item)) == []

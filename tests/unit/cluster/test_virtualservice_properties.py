"""What holds for every VirtualService that people write, and every way that a release can go."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonpatch import JsonPatchTestFailed

from sluice import release
from sluice.cluster.virtualservice import desired, named_versions, read, restore_patch, write_patch
from sluice.release import Record
from tests.unit.cluster.virtualservices import (
    MODEL,
    NEW,
    OLD,
    begun,
    forward,
    patched,
    releases,
    rolled_back,
    rule,
    touched,
    version,
    virtual_services,
    whole_releases,
    without_owned,
)

Document = dict[str, Any]
RULE = rule(version(OLD), version(NEW))


def states(document: Document, records: list[Record]) -> list[Document]:
    """The object after each write of a release."""
    found = []
    for record in records:
        document = patched(document, write_patch(document, record, MODEL))
        found.append(document)
    return found


def names(document: Document) -> list[str]:
    return [route.get("name", "") for route in document["spec"]["http"]]


def route(document: Document, name: str) -> Document:
    found: Document = document["spec"]["http"][names(document).index(name)]
    return found


@whole_releases
@given(virtual_services(), releases)
def test_the_object_says_at_every_moment_what_the_record_means(document: Document, records: list[Record]) -> None:
    for record, state in zip(records, states(document, records), strict=True):
        seen = read(state, RULE, MODEL)
        assert seen.record == record
        assert seen.weights == release.weights(record)
        assert sum(seen.weights.values()) == 100


@whole_releases
@given(virtual_services(), releases)
def test_only_what_the_release_owns_ever_changes(document: Document, records: list[Record]) -> None:
    for state in states(document, records):
        assert without_owned(state) == without_owned(document)


@whole_releases
@given(virtual_services(), rolled_back())
def test_going_back_restores_the_spec_byte_by_byte(document: Document, records: list[Record]) -> None:
    after = states(document, records)[-1]
    assert json.dumps(after["spec"], sort_keys=True) == json.dumps(document["spec"], sort_keys=True)


@whole_releases
@given(virtual_services(), releases)
def test_a_committed_or_closed_release_leaves_no_routes_behind(document: Document, records: list[Record]) -> None:
    assert names(states(document, records)[-1]) == names(document)


@whole_releases
@given(virtual_services(), st.sampled_from(forward()), st.sampled_from(forward()))
def test_a_patch_makes_the_desired_object_of_any_state(document: Document, now: Record, then: Record) -> None:
    document = states(document, [now])[0]
    for patch in (write_patch(document, then, MODEL), restore_patch(document, then, MODEL)):
        after = patched(document, patch)
        assert after["spec"] == desired(document, then, MODEL)["spec"]
        assert after["metadata"]["annotations"] == desired(document, then, MODEL)["metadata"]["annotations"]


@whole_releases
@given(virtual_services(), releases)
def test_a_write_that_changes_nothing_is_empty(document: Document, records: list[Record]) -> None:
    for record, state in zip(records, states(document, records), strict=True):
        assert write_patch(state, record, MODEL) == []
        assert restore_patch(state, record, MODEL) == []


@whole_releases
@given(virtual_services(), releases)
def test_probe_routes_are_there_exactly_while_the_release_is_open(document: Document, records: list[Record]) -> None:
    for record, state in zip(records, states(document, records), strict=True):
        position = names(state).index(MODEL.route)
        probes = [f"sluice-{role}" for role in release.probed(record)]
        assert names(state)[position - len(probes) : position] == probes
        assert len(names(state)) == len(names(document)) + len(probes)


@whole_releases
@given(virtual_services())
def test_a_probe_route_is_the_named_route_for_one_version_and_nobody_else(document: Document) -> None:
    state = states(document, [begun()])[0]
    base = route(state, MODEL.route)
    for role, wanted in {"canary": NEW, "stable": OLD}.items():
        probe = route(state, f"sluice-{role}")
        own = {"name", "match", "route", "fault", "mirror", "mirrorPercentage", "mirrors"}
        assert {k: v for k, v in probe.items() if k not in own} == {k: v for k, v in base.items() if k not in own}
        assert not probe.keys() & {"fault", "mirror", "mirrorPercentage", "mirrors"}
        assert [entry["destination"]["subset"] for entry in probe["route"]] == [f"v-{wanted}"]
        for own_match, match in zip(probe["match"], base.get("match") or [{}], strict=True):
            headers = {**match.get("headers", {}), "x-sluice-probe": {"exact": f"{role}-t0k3n"}}
            assert own_match == {**match, "headers": headers}


@whole_releases
@given(virtual_services(), releases)
def test_the_subsets_in_use_are_known(document: Document, records: list[Record]) -> None:
    for record, state in zip(records, states(document, records), strict=True):
        assert named_versions(state, MODEL) >= {*release.weights(record), *release.probed(record).values()}


@whole_releases
@given(virtual_services())
def test_a_write_to_an_object_that_somebody_else_touched_is_refused(document: Document) -> None:
    patch = write_patch(document, begun(), MODEL)
    with pytest.raises(JsonPatchTestFailed):
        patched(touched(document), patch)


@whole_releases
@given(virtual_services(), st.sampled_from(forward()))
def test_the_way_back_holds_whatever_users_do_to_their_own_routes(document: Document, reached: Record) -> None:
    state = states(document, [reached])[0]
    patch = restore_patch(state, release.rolled_back(reached, "slow"), MODEL)
    state["spec"]["http"].append({"name": "new", "redirect": {"uri": "/"}})
    state["metadata"]["labels"]["edited"] = "yes"
    after = patched(touched(state), patch)
    assert read(after, RULE, MODEL).weights == {OLD: 100}
    assert after["metadata"]["labels"]["edited"] == "yes"
    assert names(after)[-1] == "new"


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda vs: vs["metadata"]["annotations"].update({"sluice.dev/release": "r2"}), id="other release"),
        pytest.param(
            lambda vs: vs["metadata"]["annotations"].update({"sluice.dev/phase": "committed"}), id="committed"
        ),
        pytest.param(lambda vs: vs["spec"]["http"].insert(0, {"redirect": {"uri": "/"}}), id="routes moved"),
        pytest.param(lambda vs: route(vs, MODEL.route)["route"].pop(), id="destinations edited"),
        pytest.param(lambda vs: route(vs, MODEL.route).update({"name": "mine"}), id="named route renamed"),
        pytest.param(lambda vs: vs["metadata"].update({"uid": "another"}), id="object recreated"),
    ],
)
@whole_releases
@given(virtual_services())
def test_the_way_back_does_not_overwrite_what_it_has_not_seen(edit: Any, document: Document) -> None:
    state = states(document, forward())[-1]
    patch = restore_patch(state, release.rolled_back(forward()[-1], "slow"), MODEL)
    edited = copy.deepcopy(state)
    edit(edited)
    with pytest.raises(JsonPatchTestFailed):
        patched(edited, patch)


@whole_releases
@given(virtual_services())
def test_a_route_that_became_the_users_is_not_removed_with_the_probe_routes(document: Document) -> None:
    back = release.rolled_back(begun(), "aborted")
    state = states(document, [begun(), back])[-1]
    patch = restore_patch(state, release.closed(back), MODEL)
    edited = copy.deepcopy(state)
    route(edited, "sluice-canary")["name"] = "mine"
    with pytest.raises(JsonPatchTestFailed):
        patched(edited, patch)


@whole_releases
@given(virtual_services(), st.sampled_from(forward()), st.data())
def test_probe_routes_that_a_person_moved_or_edited_are_put_right(
    document: Document, reached: Record, data: st.DataObject
) -> None:
    state = states(document, [reached])[0]
    routes = state["spec"]["http"]
    moved = routes.pop(names(state).index("sluice-canary"))
    routes.insert(data.draw(st.integers(0, len(routes))), moved | {"timeout": "1s"})
    after = patched(state, write_patch(state, reached, MODEL))
    assert after["spec"] == states(document, [reached])[0]["spec"]

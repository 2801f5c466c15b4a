"""Traffic on a real API: the whole ladder and back, conflicts, other people's edits at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from kubernetes_asyncio.client.api_client import ApiClient

from sluice import release
from sluice.cluster.api import DESTINATION_RULE, VIRTUAL_SERVICE, Api, Missing
from sluice.cluster.coordinates import Coordinates
from sluice.cluster.traffic import KubernetesTraffic
from sluice.errors import Conflict, Superseded
from sluice.ports import RouteState
from sluice.release import Phase, Record
from tests.contract.cluster.conftest import HTTP, NEW, OLD

BEGUN = Record("r1", 1, Phase.BEGUN, NEW, OLD, (5, 50), "t0k3n")


@pytest.fixture
def traffic(client: ApiClient, model: Coordinates) -> KubernetesTraffic:
    return KubernetesTraffic(client, model)


async def virtual_service(api: Api, model: Coordinates) -> dict[str, Any]:
    return dict(await api.get(VIRTUAL_SERVICE, model.namespace, "model"))


async def subsets(api: Api, model: Coordinates) -> list[str]:
    rule = await api.get(DESTINATION_RULE, model.namespace, "model")
    return [subset["name"] for subset in rule["spec"]["subsets"]]


async def begun(traffic: KubernetesTraffic) -> RouteState:
    return await traffic.write(await traffic.read(), BEGUN)


async def at_five_percent(traffic: KubernetesTraffic) -> RouteState:
    return await traffic.write(await begun(traffic), release.shifted(release.examined(BEGUN), 0))


async def edit(api: Api, model: Coordinates, duration: str) -> None:
    """A user changes a route of their own."""
    last = len((await virtual_service(api, model))["spec"]["http"]) - 1
    patch = [{"op": "replace", "path": f"/spec/http/{last}/timeout", "value": duration}]
    await api.patch(VIRTUAL_SERVICE, model.namespace, "model", patch)


async def test_a_whole_release_moves_all_traffic_and_nothing_else(
    traffic: KubernetesTraffic, api: Api, model: Coordinates
) -> None:
    seen, record, observed = await begun(traffic), BEGUN, []
    examined = release.examined
    steps: list[Any] = [examined]
    for step in range(2):
        steps += [lambda r, s=step: release.shifted(r, s), lambda r, s=step: release.advanced(r, s)]
    for change in [*steps, release.promoted, release.committed, release.closed]:
        record = change(record)
        seen = await traffic.write(seen, record)
        observed.append(dict(seen.weights))
        assert (seen.record, seen) == (record, await traffic.read())
    five, half = {OLD: 95, NEW: 5}, {OLD: 50, NEW: 50}
    assert observed == [{OLD: 100}, five, five, half, half, {NEW: 90, OLD: 10}, {NEW: 100}, {NEW: 100}]
    expected = [
        HTTP[0],
        {**HTTP[1], "route": [{"destination": {"host": "model", "subset": f"v-{NEW}"}, "weight": 100}]},
    ]
    assert (await virtual_service(api, model))["spec"]["http"] == [*expected, HTTP[2]]


async def test_going_back_leaves_the_spec_as_it_was(traffic: KubernetesTraffic, api: Api, model: Coordinates) -> None:
    before = (await virtual_service(api, model))["spec"]
    seen = await at_five_percent(traffic)
    assert seen.record is not None
    back = release.rolled_back(seen.record, "errors")
    seen = await traffic.restore(seen, back)
    assert seen.weights == {OLD: 100}
    await traffic.write(seen, release.closed(back))
    assert (await virtual_service(api, model))["spec"] == before


async def test_probes_reach_either_version_while_the_release_is_open(
    traffic: KubernetesTraffic, api: Api, model: Coordinates
) -> None:
    await begun(traffic)
    routes = (await virtual_service(api, model))["spec"]["http"]
    assert [route.get("name") for route in routes] == ["docs", "sluice-canary", "sluice-stable", "primary", None]
    assert routes[1] == {
        "name": "sluice-canary",
        "match": [{"uri": {"prefix": "/v1"}, "headers": {"x-sluice-probe": {"exact": "canary-t0k3n"}}}],
        "route": [{"destination": {"host": "model", "subset": f"v-{NEW}"}, "weight": 100}],
        "timeout": "300s",
    }


async def test_a_write_on_what_somebody_changed_is_a_conflict_and_writes_nothing(
    traffic: KubernetesTraffic, api: Api, model: Coordinates
) -> None:
    stale = await traffic.read()
    await edit(api, model, "9s")
    with pytest.raises(Conflict, match="was written by somebody else"):
        await traffic.write(stale, BEGUN)
    assert (await traffic.read()).record is None


async def test_a_patch_whose_test_fails_is_a_conflict(api: Api, model: Coordinates) -> None:
    patch = [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}]
    with pytest.raises(Conflict, match="a test of the patch failed"):
        await api.patch(VIRTUAL_SERVICE, model.namespace, "model", patch)


async def test_a_write_that_changes_nothing_is_not_sent(traffic: KubernetesTraffic) -> None:
    seen = await begun(traffic)
    assert await traffic.write(seen, BEGUN) == seen


async def test_the_way_back_holds_while_a_user_edits_another_route(
    traffic: KubernetesTraffic, api: Api, model: Coordinates
) -> None:
    seen = await at_five_percent(traffic)
    assert seen.record is not None

    async def edits() -> None:
        for second in range(20):
            await edit(api, model, f"{second}s")

    back = release.rolled_back(seen.record, "slow")
    _, after = await asyncio.gather(edits(), traffic.restore(seen, back))
    assert (after.weights, after.record) == ({OLD: 100}, back)
    assert (await virtual_service(api, model))["spec"]["http"][-1]["timeout"] == "19s"


async def test_the_way_back_holds_against_an_edit_of_the_weights(
    traffic: KubernetesTraffic, api: Api, model: Coordinates
) -> None:
    seen = await at_five_percent(traffic)
    assert seen.record is not None
    path = "/spec/http/3/route/1/weight"
    await api.patch(VIRTUAL_SERVICE, model.namespace, "model", [{"op": "replace", "path": path, "value": 70}])
    assert (await traffic.read()).weights == {OLD: 95, NEW: 70}
    assert (await traffic.restore(seen, release.rolled_back(seen.record, "slow"))).weights == {OLD: 100}


async def test_the_way_back_refuses_another_releases_traffic(
    traffic: KubernetesTraffic, api: Api, model: Coordinates
) -> None:
    seen = await at_five_percent(traffic)
    assert seen.record is not None
    path = "/metadata/annotations/sluice.dev~1release"
    await api.patch(VIRTUAL_SERVICE, model.namespace, "model", [{"op": "replace", "path": path, "value": "r2"}])
    before = await virtual_service(api, model)
    with pytest.raises(Superseded, match="release r1 no longer owns the model's traffic, r2 does"):
        await traffic.restore(seen, release.rolled_back(seen.record, "slow"))
    assert await virtual_service(api, model) == before


async def test_what_was_committed_meanwhile_stays_committed(traffic: KubernetesTraffic) -> None:
    advanced = release.advanced(release.shifted(release.advanced(release.shifted(release.examined(BEGUN), 0), 0), 1), 1)
    seen = await traffic.write(await begun(traffic), release.promoted(advanced))
    committed = release.committed(release.promoted(advanced))
    await traffic.write(seen, committed)
    after = await traffic.restore(seen, release.rolled_back(release.promoted(advanced), "late"))
    assert (after.weights, after.record) == ({NEW: 100}, committed)


async def test_the_first_reason_of_a_rollback_stays(traffic: KubernetesTraffic) -> None:
    seen = await at_five_percent(traffic)
    assert seen.record is not None
    first = await traffic.restore(seen, release.rolled_back(seen.record, "errors"))
    again = await traffic.restore(seen, release.rolled_back(seen.record, "slow"))
    assert again == first


async def test_subsets_come_before_their_use_and_go_after_it(
    traffic: KubernetesTraffic, api: Api, model: Coordinates
) -> None:
    await begun(traffic)
    assert await subsets(api, model) == [f"v-{OLD}", "batch", f"v-{NEW}"]
    await traffic.sweep(keep=[])
    assert await subsets(api, model) == [f"v-{OLD}", "batch", f"v-{NEW}"], "both are named by routes"
    await traffic.write(await traffic.read(), release.closed(release.rolled_back(BEGUN, "aborted")))
    await traffic.sweep(keep=[OLD])
    assert await subsets(api, model) == [f"v-{OLD}", "batch"]


async def test_without_its_rule_no_traffic_moves(traffic: KubernetesTraffic, api: Api, model: Coordinates) -> None:
    seen = await traffic.read()
    rule = await api.get(DESTINATION_RULE, model.namespace, "model")
    await api.delete(DESTINATION_RULE, model.namespace, "model", rule["metadata"]["uid"])
    before = await virtual_service(api, model)
    with pytest.raises(Missing, match=f"DestinationRule {model.namespace}/model does not exist"):
        await traffic.write(seen, BEGUN)
    assert await virtual_service(api, model) == before


async def test_two_writers_of_the_rule_do_not_lose_each_others_subsets(
    traffic: KubernetesTraffic, api: Api, model: Coordinates
) -> None:
    added = {"op": "add", "path": "/spec/subsets/-", "value": {"name": "u", "labels": {"tier": "u"}}}
    await asyncio.gather(begun(traffic), api.patch(DESTINATION_RULE, model.namespace, "model", [added]))
    assert sorted(await subsets(api, model)) == ["batch", "u", f"v-{NEW}", f"v-{OLD}"]


async def test_a_missing_object_is_named_with_what_to_apply(client: ApiClient, namespace: str) -> None:
    traffic = KubernetesTraffic(client, Coordinates(namespace, "absent", "absent", "absent"))
    with pytest.raises(Missing, match=rf"{namespace}/absent does not exist on http.*kubectl apply -k manifests"):
        await traffic.read()

"""plan, build, begin, deploy: what is pinned, what is refused, and what is adopted when a task runs again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice.engine.deploy import begin, build, deploy
from sluice.engine.measured import last_measured
from sluice.engine.plan import Plan, pinned_in, plan
from sluice.errors import Ambiguous, BadInput, DeadlineExceeded, Refused, Superseded, Unreachable
from sluice.ports import Revision
from sluice.release import Phase
from tests.fakes import World, prompt_set
from tests.unit.engine.dag_run import ROOT, DagRun, a_policy, a_request


async def planned(world: World, **policy: Any) -> Plan:
    return await plan(world.ports, a_policy(**policy), a_request(), ROOT)


# --- plan ------------------------------------------------------------------------------------------------------------


async def test_two_plans_of_the_same_inputs_are_the_same_version() -> None:
    assert (await planned(World())).version == (await planned(World())).version


SERVING = a_policy().model_dump(mode="json")["serving"]
IMAGE = a_policy().model_dump(mode="json")["image"]


def other_revision(world: World) -> None:
    world.revisions.known["r2"] = replace(world.revisions.known["r2"], digest="sha256:other")


def other_settings_of_the_revision(world: World) -> None:
    world.revisions.known["r2"] = replace(world.revisions.known["r2"], settings={"max_batch": "16"})


def other_context(world: World) -> None:
    world.images.context = "sha256:context-2"


@pytest.mark.parametrize("change", [other_revision, other_settings_of_the_revision, other_context])
async def test_another_input_is_another_version(change: Callable[[World], None]) -> None:
    world = World()
    change(world)
    assert (await planned(world)).version != (await planned(World())).version


@pytest.mark.parametrize(
    "change",
    [
        {"serving": SERVING | {"settings": {"max_length": 512}}},
        {"image": IMAGE | {"base": "python:3.12"}},
        {"image": IMAGE | {"weights": "cache"}},
    ],
    ids=["serving setting", "base image", "weights elsewhere"],
)
async def test_another_serving_setting_or_another_image_is_another_version(change: dict[str, Any]) -> None:
    assert (await planned(World(), **change)).version != (await planned(World())).version


async def test_how_carefully_a_version_is_released_does_not_change_it() -> None:
    assert (await planned(World(), soak="1h", tick="1s")).version == (await planned(World())).version


async def test_the_revisions_settings_win_over_the_policys() -> None:
    assert (await planned(World())).settings == {"max_batch": "8"}
    assert (await planned(World())).workload("image").environment == {"SERVING_MAX_BATCH": "8"}


async def test_a_revision_does_not_change_what_its_limits_are_measured_by() -> None:
    world = World()
    world.revisions.known["r2"] = replace(world.revisions.known["r2"], settings={"time_buckets_seconds": "1,2"})
    with pytest.raises(BadInput, match=r"revision r2: its serving.json sets time_buckets_seconds"):
        await planned(world)


async def test_the_ledger_gives_the_plan_back() -> None:
    world = World()
    made = await planned(world)
    entries = await world.ledger.entries("arithmetic", "rel-1")
    assert pinned_in(entries, "arithmetic", "rel-1") == made


async def test_a_release_without_a_plan_is_refused() -> None:
    with pytest.raises(Refused, match="the ledger holds no plan of release rel-9; trigger a new release"):
        pinned_in([], "arithmetic", "rel-9")


async def test_planning_reads_only() -> None:
    world = World()
    await planned(world)
    writes = {"write", "restore", "sweep", "ensure", "remove", "acquire", "renew", "release", "build"}
    assert not [call for call in world.wire.calls if call.split(".")[1] in writes]


async def test_an_unknown_revision_is_refused_before_anything_was_touched() -> None:
    world = World()
    with pytest.raises(BadInput, match="revision 'r9' is unknown; known: r1, r2, r3"):
        await plan(world.ports, a_policy(), a_request(revision="r9"), ROOT)
    assert world.traffic.generation == 1
    assert world.lease.state is None


async def test_a_margin_that_the_prompts_cannot_certify_is_refused() -> None:
    world = World()
    world.prompts = prompt_set(12)
    with pytest.raises(BadInput, match=r"gates.quality.margin: 0.3 cannot be certified with the 12 prompts.*0\.4"):
        await planned(world)


async def test_traffic_that_cannot_reach_a_verdict_is_refused() -> None:
    with pytest.raises(BadInput, match="max_hold"):
        await plan(World().ports, a_policy(rate=0.2), a_request(), ROOT)


async def test_the_last_release_says_how_much_traffic_there_is() -> None:
    run = DagRun(World())
    await run.run()
    found, _ = await last_measured(run.world.ledger, "arithmetic")
    assert found is not None
    assert found.rate == pytest.approx(run.world.telemetry.per_second, rel=0.2)
    with pytest.raises(BadInput, match="max_hold"):
        await plan(run.world.ports, a_policy(max_hold="15s"), a_request("rel-2", "r3"), ROOT)


async def test_a_release_is_refused_while_its_drills_are_missing_but_a_drill_is_not() -> None:
    world, policy = World(), a_policy(drill={"max_age": "7d"})
    with pytest.raises(Refused, match=r"drill.max_age asks for drills.*run: sluice drill arithmetic"):
        await plan(world.ports, policy, a_request(), ROOT)
    drill = replace(a_request("rel-2"), drill="slow", dry_run=True, settings={"fault": "late:1"})
    assert (await plan(world.ports, policy, drill, ROOT)).settings["fault"] == "late:1"


async def test_split_traffic_without_a_release_is_refused() -> None:
    world = World()
    world.traffic.edit({"old": 60, "other": 40})
    with pytest.raises(Ambiguous, match=r"split \(old 60 %, other 40 %\).*give one version all of it"):
        await planned(world)


# --- build -----------------------------------------------------------------------------------------------------------


async def test_an_image_that_exists_is_not_built_again() -> None:
    world = World()
    made = await planned(world)
    first = await build(world.ports, made, ROOT, lambda line: None)
    assert await build(world.ports, made, ROOT, lambda line: None) == first
    assert world.images.builds == 1


async def test_a_build_context_that_was_edited_after_planning_is_refused() -> None:
    world = World()
    made = await planned(world)
    world.images.context = "sha256:context-2"
    with pytest.raises(Refused, match=r"build context model_image changed after.*trigger a new release"):
        await build(world.ports, made, ROOT, lambda line: None)
    assert world.images.builds == 0


async def test_a_revision_whose_files_were_changed_after_planning_is_refused() -> None:
    world = World()
    made = await planned(world)
    world.revisions.known["r2"] = replace(world.revisions.known["r2"], digest="sha256:other")
    with pytest.raises(Refused, match=r"revision r2 changed after.*trigger a new release"):
        await build(world.ports, made, ROOT, lambda line: None)
    assert world.images.builds == 0


async def test_the_build_gets_the_projects_context() -> None:
    made = await planned(World())
    assert made.image(ROOT).context == Path("project/model_image")
    assert isinstance(made.image(ROOT).revision, Revision)


# --- weights in the model cache --------------------------------------------------------------------------------------


CACHED = {"image": IMAGE | {"weights": "cache"}}


async def test_weights_come_into_the_cache_even_if_the_image_is_there() -> None:
    world = World()
    assert world.cache
    made = await planned(world, **CACHED)
    for _ in range(2):
        await build(world.ports, made, ROOT, lambda line: None)
        assert world.cache.wanted.keys() == {made.revision.digest}
        world.cache.wanted.clear()
    assert world.images.builds == 1


async def test_weights_in_the_image_are_not_in_the_cache_as_well() -> None:
    world = World()
    await build(world.ports, await planned(world), ROOT, lambda line: None)
    assert world.cache
    assert world.cache.wanted == {}


async def test_the_server_is_told_where_its_cached_model_is() -> None:
    made = await planned(World(), **CACHED)
    digits = made.revision.digest.removeprefix("sha256:")
    assert made.workload("image").environment["MODEL_DIR"] == f"/models/arithmetic/{digits}"


async def test_a_policy_that_wants_a_cache_is_refused_where_there_is_none() -> None:
    world = World()
    world.cache = None
    with pytest.raises(BadInput, match=r"image\.weights: cache, but SLUICE_MODEL_CACHE is not set"):
        await planned(world, **CACHED)


# --- begin -----------------------------------------------------------------------------------------------------------


async def test_begin_moves_no_traffic_and_records_last_good() -> None:
    world = World()
    record = await begin(world.ports, await planned(world))
    assert (record.last_good, record.phase, record.epoch) == ("old", Phase.BEGUN, 1)
    assert world.traffic.weights == {"old": 100}
    assert world.lease.holder == "rel-1"


async def test_begin_adopts_what_its_earlier_attempt_left() -> None:
    run = DagRun(World())
    await run.up_to("watch 0")
    assert run.plan is not None
    left = run.world.record
    assert await begin(run.world.ports, run.plan, "another token") == left
    assert run.world.record == left
    assert left.last_good == "old"


async def test_each_release_has_its_own_secret_token() -> None:
    tokens = set()
    for _ in range(5):
        world = World()
        tokens.add((await begin(world.ports, await planned(world))).token)
    assert len(tokens) == 5


async def test_a_begin_that_is_refused_gives_the_lease_back() -> None:
    world = World()
    made = await planned(world)
    world.traffic.edit({"old": 60, "other": 40})
    with pytest.raises(Ambiguous):
        await begin(world.ports, made)
    assert world.lease.holder == ""
    assert world.traffic.record is None


async def test_a_begin_that_fails_amid_its_release_leaves_the_lease_to_the_guard() -> None:
    run = DagRun(World())
    await run.up_to("shift 1")
    assert run.plan is not None
    run.world.wire.new_process(lose_answer_of=2)  # the read after started and acquire
    with pytest.raises(Unreachable):
        await begin(run.world.ports, run.plan)
    assert run.world.lease.holder == "rel-1"


# --- deploy ----------------------------------------------------------------------------------------------------------


async def begun() -> tuple[World, Plan]:
    run = DagRun(World())
    await run.up_to("begin")
    assert run.plan is not None
    return run.world, run.plan


async def test_deploy_waits_until_probes_reach_the_version() -> None:
    world, made = await begun()
    world.endpoint.routed = False
    world.clock.after(6, lambda: setattr(world.endpoint, "routed", True))
    await deploy(world.ports, made, 1, "image@sha256:1")
    assert world.clock.seconds >= 6
    assert world.traffic.weights == {"old": 100}


async def test_a_route_that_never_comes_is_a_named_deadline() -> None:
    world, made = await begun()
    world.endpoint.routed = False
    with pytest.raises(DeadlineExceeded, match=r"deadlines.ready.*route sluice-canary"):
        await deploy(world.ports, made, 1, "image@sha256:1")


async def test_the_lease_is_renewed_while_pods_start() -> None:
    world, made = await begun()
    world.versions[made.version].starts_in_seconds = 15
    world.wire.new_process()
    await deploy(world.ports, made, 1, "image@sha256:1")
    assert 4 <= world.wire.calls.count("lease.renew") <= 10  # each tenth of the lease, not each look at the pods


async def test_a_deploy_whose_release_was_rolled_back_creates_nothing() -> None:
    world, made = await begun()
    world.guard_restores()
    with pytest.raises(Superseded):
        await deploy(world.ports, made, 1, "image@sha256:1")
    assert made.version not in world.workloads.specs

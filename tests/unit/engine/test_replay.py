"""The ledger alone gives back every verdict that was recorded, whatever the watch went through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from sluice.engine.evidence import Evidence
from sluice.engine.ladder import watch
from sluice.engine.replay import replay
from sluice.engine.windows import to_record
from sluice.errors import Refused, RolledBack
from sluice.ports import Entry, Timing, Totals
from tests.fakes import Behaviour, World
from tests.unit.engine.dag_run import DagRun, a_policy


def nothing(world: World) -> None:
    """All goes well."""


def metrics_away_for_a_while(world: World) -> None:
    world.clock.after(12, lambda: world.wire.down.add("telemetry"))
    world.clock.after(33, lambda: world.wire.down.clear())


def ledger_away_for_a_while(world: World) -> None:
    world.clock.after(12, lambda: world.wire.down.add("ledger"))
    world.clock.after(33, lambda: world.wire.down.clear())


def canary_starts_again(world: World) -> None:
    """Its counters fall to nothing."""
    world.clock.after(23, lambda: world.telemetry.counters.update({world.record.canary: Totals()}))


def contradictory_counters(world: World) -> None:
    """More failures than answers since the last look, as two sources that were read at different moments give."""
    totals = world.telemetry.totals
    world.clock.after(13, lambda: setattr(world.telemetry, "totals", skewed))
    world.clock.after(18, lambda: setattr(world.telemetry, "totals", totals))

    async def skewed(versions: Any, limits_seconds: Any) -> Any:
        seen = await totals(versions, limits_seconds)
        return {
            version: replace(of, failed=of.answered, attempts_failed=of.attempts + 9) for version, of in seen.items()
        }


def folded(run: DagRun, entries: list[Entry]) -> list[dict[str, Any]]:
    evidence = Evidence.of(run.policy, run.world.record.canary, run.world.record.last_good).fold(entries)
    return [verdict.to_record() for verdict in evidence.verdicts]


@pytest.mark.parametrize("behaviour", [Behaviour(), Behaviour(failing=0.02, slow=0.03), Behaviour(failing=0.3)])
@pytest.mark.parametrize(
    "misfortune",
    [nothing, metrics_away_for_a_while, ledger_away_for_a_while, canary_starts_again, contradictory_counters],
)
async def test_folding_the_entries_gives_the_recorded_verdicts(
    behaviour: Behaviour, misfortune: Callable[[World], None]
) -> None:
    run = DagRun(World())
    await run.up_to("begin")
    run.world.versions["old"] = Behaviour(failing=0.01, slow=0.02)
    run.world.versions[run.world.record.canary] = behaviour
    misfortune(run.world)
    await run.run()
    entries = run.world.ledger.by_release[("arithmetic", "rel-1")]
    looks = [index for index, entry in enumerate(entries) if entry.kind == "look"]
    assert looks
    for index in looks:
        assert folded(run, entries[:index]) == entries[index].data["verdicts"]
    replayed = replay(entries)
    assert {one.gate for one in replayed.compared} >= {"quality", "contract", "errors", "latency", "share"}
    assert replayed.same


async def test_a_watch_that_was_killed_counts_what_happened_while_it_was_dead() -> None:
    run = DagRun(World())
    await run.up_to("shift 1")
    await run.world.clock.sleep(60)
    assert run.plan is not None
    decision = await watch(run.world.ports, run.plan, 1, 1)
    look = [entry.data for entry in run.world.ledger.by_release[("arithmetic", "rel-1")] if entry.kind == "look"][-1]
    assert look["canary_requests"] > 1000
    assert "non_inferior" in {verdict["outcome"] for verdict in look["verdicts"]}
    assert decision.action == "advance"


async def test_evidence_is_counted_where_it_arose_not_where_it_was_read() -> None:
    run = DagRun(World())
    await run.up_to("watch 0")
    run.world.versions[run.world.record.canary].failing = 0.5
    await run.world.clock.sleep(2)
    run.world.versions[run.world.record.canary].failing = 0.0
    await run.up_to("shift 1")
    windows = [entry for entry in run.world.ledger.by_release[("arithmetic", "rel-1")] if entry.kind == "window"]
    assert windows[-1].data["step"] == 0
    assert windows[-1].data["totals"][run.world.record.canary]["failed"] > 0


async def test_a_verdict_that_the_evidence_does_not_give_is_found() -> None:
    run = DagRun(World())
    await run.run()
    entries = list(run.world.ledger.by_release[("arithmetic", "rel-1")])
    look = next(index for index, entry in enumerate(entries) if entry.kind == "look")
    kinder = [verdict | {"outcome": "regression"} for verdict in entries[look].data["verdicts"]]
    entries[look] = replace(entries[look], data=entries[look].data | {"verdicts": kinder})
    replayed = replay(entries)
    assert not replayed.same
    assert {one.entry_number for one in replayed.compared if not one.same} == {entries[look].number}


async def test_every_look_can_be_shown_not_only_those_that_decided() -> None:
    run = DagRun(World())
    await run.run()
    entries = run.world.ledger.by_release[("arithmetic", "rel-1")]
    looks = replay(entries).looks
    assert len(looks) > len([entry for entry in entries if entry.kind == "look"])
    assert [look.at for look in looks] == sorted(look.at for look in looks)
    assert {look.weight for look in looks} >= {20, 50}


# --- single windows --------------------------------------------------------------------------------------------------

LENGTHS = {"short": Timing(0, 0), "long": Timing(0, 0)}


async def test_a_length_class_that_nobody_announced_is_judged_as_other() -> None:
    run = DagRun(World())
    await run.up_to("begin")
    evidence = Evidence.of(a_policy(), run.world.record.canary, "old")
    quiet = {metric: LENGTHS for metric in ("ttft", "tpot", "e2e")}
    long = {metric: {"enormous": Timing(40, 40)} for metric in quiet}
    canary, now = run.world.record.canary, run.world.clock.now()
    seen = evidence.observe({"step": -1, "totals": {"old": to_record(Totals(timings=quiet))}}, now)
    seen = seen.enter(0, {"old": 80, canary: 20}, now)
    totals = {
        canary: to_record(Totals(40, 40, 0, 40, 0, timings=long)),
        "old": to_record(Totals(160, 160, 0, 160, 0, timings=quiet)),
    }
    seen = seen.observe({"step": 0, "totals": totals}, now)
    assert seen.latency is not None
    assert seen.latency.metrics["ttft"].tallies.release.canary.bad == 40


async def test_an_event_that_only_the_canarys_servers_count_is_not_held_against_it() -> None:
    run = DagRun(World())
    await run.up_to("begin")
    canary, now = run.world.record.canary, run.world.clock.now()
    old, new = Totals(completed=90, behaviour={"empty": 0}), Totals(completed=9, behaviour={"empty": 0, "long": 9})
    seen = Evidence.of(a_policy(), canary, "old").observe(
        {"step": -1, "totals": {"old": to_record(old), canary: to_record(new)}}, now
    )
    assert seen.behaviour is not None
    assert seen.behaviour.events == ("empty",)


async def test_a_contradictory_window_that_a_shift_noted_is_let_go() -> None:
    run = DagRun(World())
    await run.up_to("watch 0")
    entries = list(run.world.ledger.by_release[("arithmetic", "rel-1")])
    last = next(entry for entry in reversed(entries) if entry.kind == "window")
    more_failures = {
        version: counters | {"failed": counters["answered"] + 9} for version, counters in last.data["totals"].items()
    }
    impossible = replace(last, data={"step": 0, "totals": more_failures})
    assert folded(run, [*entries, impossible]) == folded(run, entries)


async def test_rolling_back_leaves_the_look_that_decided() -> None:
    run = DagRun(World())
    await run.up_to("shift 0")
    run.world.versions[run.world.record.canary].failing = 0.5
    with pytest.raises(RolledBack) as error:
        await dict(run.tasks())["watch 0"]()
    look = [entry.data for entry in run.world.ledger.by_release[("arithmetic", "rel-1")] if entry.kind == "look"][-1]
    assert look["action"] == "roll_back"
    assert look["sentence"] == str(error.value)


async def test_entries_of_an_earlier_form_are_named_as_such() -> None:
    run = DagRun(World())
    await run.run()
    entries = [
        replace(entry, data={key: value for key, value in entry.data.items() if key != "verdicts"})
        for entry in run.world.ledger.by_release[("arithmetic", "rel-1")]
    ]
    with pytest.raises(Refused, match=r"another form than today's \(KeyError: 'verdicts'\)"):
        replay(entries)

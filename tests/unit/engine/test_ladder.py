"""shift, watch, promote: what moves the traffic up, and everything that does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sluice.engine.decision import Action
from sluice.engine.ladder import promote, shift, watch
from sluice.errors import Refused, RolledBack, Superseded, Unreachable
from sluice.release import Phase
from tests.fakes import World
from tests.unit.engine.dag_run import DagRun, a_policy


async def run_up_to(last: str, **policy: Any) -> DagRun:
    """A release whose tasks up to `last` are done."""
    run = DagRun(World(), policy=a_policy(**policy))
    await run.up_to(last)
    return run


async def task(run: DagRun, name: str) -> Any:
    return await dict(run.tasks())[name]()


def looks(run: DagRun) -> list[str]:
    entries = run.world.ledger.by_release[("arithmetic", "rel-1")]
    return [entry.data["sentence"] for entry in entries if entry.kind == "look"]


# --- evidence, and nothing else, opens a step ------------------------------------------------------------------------


async def test_no_step_opens_before_the_examination() -> None:
    run = await run_up_to("deploy")
    with pytest.raises(Refused, match="step 1 needs the examination, but the release is at begun"):
        await task(run, "shift 0")
    assert run.world.traffic.weights == {"old": 100}


async def test_a_watch_that_a_person_marked_successful_moves_nothing() -> None:
    run = await run_up_to("shift 0")
    with pytest.raises(Refused, match=r"step 2 needs the advance of step 1.*clear the task that gathers it"):
        await task(run, "shift 1")
    assert run.world.record.step == 0


async def test_promotion_needs_the_last_steps_advance() -> None:
    run = await run_up_to("watch 0")
    with pytest.raises(Refused, match="promotion needs the advance of the last step"):
        await task(run, "promote")
    assert run.world.record.phase is Phase.ADVANCED


async def test_a_step_that_was_not_opened_cannot_be_judged() -> None:
    run = await run_up_to("watch 0")
    before = run.world.clock.seconds
    with pytest.raises(Refused, match="step 2 cannot be judged: the release is at advanced, step 1"):
        await task(run, "watch 1")
    assert run.world.clock.seconds == before


async def test_a_soak_without_a_promotion_commits_nothing() -> None:
    run = await run_up_to("watch 1")
    with pytest.raises(Refused, match="commits at the end of its soak, but this one is at advanced"):
        await task(run, "soak")
    assert run.world.record.phase is Phase.ADVANCED


async def test_an_earlier_shift_that_is_run_again_never_goes_down() -> None:
    run = await run_up_to("promote")
    before = list(run.world.traffic.written)
    assert await task(run, "shift 0") == run.world.traffic.weights
    assert run.world.traffic.written == before


async def test_an_earlier_watch_that_is_run_again_is_decided_already() -> None:
    run = await run_up_to("promote")
    asked = len(looks(run))
    assert (await task(run, "watch 0")).action is Action.ADVANCE
    assert len(looks(run)) == asked


# --- other writers ---------------------------------------------------------------------------------------------------


async def test_a_watch_stops_and_writes_nothing_when_the_guard_has_acted() -> None:
    run = await run_up_to("shift 1")
    run.world.clock.after(7, run.world.guard_restores)
    with pytest.raises(Superseded, match=r"rolled back \(the guard restored last good"):
        await task(run, "watch 1")
    assert run.world.record.phase is Phase.ROLLED_BACK
    assert run.world.traffic.weights == {"old": 100}
    conclusion = await run.teardown()
    assert isinstance(conclusion, RolledBack)
    assert "the guard restored last good" in str(conclusion)
    assert run.world.record.closed


@pytest.mark.parametrize("late", ["shift 0", "watch 0", "shift 1", "promote", "soak"])
async def test_a_late_task_is_refused_after_a_rollback(late: str) -> None:
    run = await run_up_to("shift 0")
    run.world.guard_restores()
    written = list(run.world.traffic.written)
    with pytest.raises(Superseded, match=r"was rolled back.*trigger a new release instead of clearing its tasks"):
        await task(run, late)
    assert run.world.traffic.written == written
    assert run.world.traffic.weights == {"old": 100}


async def test_a_late_task_of_a_settled_release_names_the_remedy() -> None:
    run = await run_up_to("shift 0")
    run.world.guard_restores()
    await run.teardown()
    with pytest.raises(Refused, match=r"was rolled back.*trigger a new release instead of clearing its tasks"):
        await task(run, "begin")
    assert run.world.traffic.weights == {"old": 100}
    assert run.world.lease.holder == ""


async def test_a_task_with_an_older_epoch_writes_nothing() -> None:
    run = await run_up_to("examine")
    assert run.plan is not None
    with pytest.raises(Superseded, match="is at epoch 1, this task at 0"):
        await shift(run.world.ports, run.plan, 0, 0)
    assert run.world.record.phase is Phase.EXAMINED


async def test_two_shifts_at_the_same_time_write_once() -> None:
    run = await run_up_to("examine")
    await asyncio.gather(task(run, "shift 0"), task(run, "shift 0"))
    assert len(run.world.traffic.written) == 1


async def test_a_watch_beside_a_settle_does_not_raise_the_weight_again() -> None:
    run = await run_up_to("shift 1")
    assert run.plan is not None
    watching = asyncio.create_task(watch(run.world.ports, run.plan, 1, 1))
    await asyncio.sleep(0)
    await run.teardown()
    with pytest.raises(Superseded):
        await watching
    assert run.world.traffic.weights == {"old": 100}
    assert run.world.record.closed


# --- drift -----------------------------------------------------------------------------------------------------------


async def test_an_outside_edit_of_the_weights_is_held_and_reported() -> None:
    run = await run_up_to("shift 0", max_hold="1m")
    canary = run.world.record.canary
    run.world.traffic.edit({"old": 60, canary: 40})
    with pytest.raises(RolledBack, match=f"somebody edited the weights.*{canary} 40 %.*instead of.*{canary} 20 %"):
        await task(run, "watch 0")
    assert run.world.traffic.weights == {"old": 100}
    assert run.world.clock.seconds > 60


async def test_a_watch_goes_on_when_the_weights_were_put_back() -> None:
    run = await run_up_to("shift 0")
    written, canary = dict(run.world.traffic.weights), run.world.record.canary
    run.world.traffic.edit({"old": 70, canary: 30})
    run.world.clock.after(30, lambda: run.world.traffic.edit(written))
    assert (await task(run, "watch 0")).action is Action.ADVANCE
    assert run.world.clock.seconds > 40


async def test_a_shift_is_refused_while_the_weights_are_not_as_written() -> None:
    run = await run_up_to("watch 0")
    run.world.traffic.edit({"old": 100})
    with pytest.raises(Refused, match="somebody edited the weights"):
        await task(run, "shift 1")
    assert run.world.traffic.weights == {"old": 100}


async def test_running_begin_again_does_not_undo_a_persons_edit() -> None:
    run = await run_up_to("shift 1")
    run.world.traffic.edit({"old": 100})
    await task(run, "begin")
    assert run.world.traffic.weights == {"old": 100}


# --- what users see -------------------------------------------------------------------------------------------------


async def test_requests_that_hang_count_before_they_end() -> None:
    run = await run_up_to("shift 1")
    run.world.versions[run.world.record.canary].hanging = 0.3
    with pytest.raises(RolledBack, match="errors: canary"):
        await task(run, "watch 1")
    canary = run.world.telemetry.counters[run.world.record.canary]
    assert (canary.failed, canary.overdue > 0) == (0, True)


async def test_answers_that_are_cut_off_more_often_are_a_regression() -> None:
    run = await run_up_to("shift 1")
    run.world.versions["old"].odd = 0.02
    run.world.versions[run.world.record.canary].odd = 0.5
    with pytest.raises(RolledBack, match="behaviour: truncated"):
        await task(run, "watch 1")
    assert run.world.traffic.weights == {"old": 100}


async def test_whole_histograms_are_kept_at_the_start_of_each_step_and_at_its_end() -> None:
    run = await run_up_to("promote")
    entries = run.world.ledger.by_release[("arithmetic", "rel-1")]
    found = [entry.data for entry in entries if entry.kind == "distributions"]
    assert [one["step"] for one in found] == [-1, 0, 0, 1, 1]
    assert found[-1]["versions"][run.world.record.canary]["e2e"][-1][0] is None


async def test_histograms_that_cannot_be_read_hold_nothing_up() -> None:
    run = await run_up_to("shift 1")

    async def away(versions: Any) -> Any:
        raise Unreachable("the metrics do not answer")

    run.world.telemetry.distributions = away  # type: ignore[method-assign]
    assert (await task(run, "watch 1")).action is Action.ADVANCE


# --- no data ---------------------------------------------------------------------------------------------------------


async def test_metrics_that_do_not_answer_hold_the_step_then_it_goes_on() -> None:
    run = await run_up_to("shift 0")
    run.world.wire.down.add("telemetry")
    run.world.clock.after(60, lambda: run.world.wire.down.clear())
    assert (await task(run, "watch 0")).action is Action.ADVANCE
    assert run.world.clock.seconds > 60
    assert run.world.record.phase is Phase.ADVANCED


async def test_metrics_that_never_answer_roll_back_after_max_hold() -> None:
    run = await run_up_to("shift 0", max_hold="2m")
    run.world.wire.down.add("telemetry")
    with pytest.raises(RolledBack, match=r"no verdict within max_hold.*no data: the telemetry does not answer"):
        await task(run, "watch 0")
    assert 120 <= run.world.clock.seconds < 140
    assert run.world.traffic.weights == {"old": 100}


async def test_an_api_server_that_is_away_for_a_while_holds_the_step() -> None:
    run = await run_up_to("shift 0")
    run.world.clock.after(3, lambda: run.world.wire.down.update({"traffic", "lease", "workloads"}))
    run.world.clock.after(25, lambda: run.world.wire.down.clear())
    assert (await task(run, "watch 0")).action is Action.ADVANCE


async def test_a_canary_whose_series_never_came_is_rolled_back_after_its_deadline() -> None:
    run = await run_up_to("shift 0")
    run.world.versions[run.world.record.canary].series = False
    with pytest.raises(RolledBack, match=r"the canary's series are missing .* \(data.missing\)"):
        await task(run, "watch 0")
    assert run.world.clock.seconds < 40


async def test_a_canary_whose_series_went_away_is_rolled_back_after_its_deadline() -> None:
    run = await run_up_to("shift 1")
    run.world.versions[run.world.record.canary].series = False
    with pytest.raises(RolledBack, match="series are missing"):
        await task(run, "watch 1")
    assert run.world.traffic.weights == {"old": 100}


async def test_no_traffic_at_all_is_not_a_regression_and_never_ships() -> None:
    run = await run_up_to("examine", max_hold="1m")
    run.world.telemetry.per_second = 0.0
    await task(run, "shift 0")
    with pytest.raises(RolledBack, match=r"no verdict within max_hold.*no request has started"):
        await task(run, "watch 0")


async def test_too_little_traffic_never_ships() -> None:
    run = await run_up_to("watch 0", max_hold="1m")
    run.world.telemetry.per_second = 1.0
    await task(run, "shift 1")
    with pytest.raises(RolledBack, match="no verdict within max_hold"):
        await task(run, "watch 1")


async def test_the_lease_is_renewed_at_every_look() -> None:
    run = await run_up_to("shift 0")
    run.world.wire.new_process()
    await task(run, "watch 0")
    calls = run.world.wire.calls
    assert calls.count("lease.renew") == calls.count("telemetry.totals") > 1


async def test_a_shift_that_meets_an_outage_is_retried_and_counts_its_evidence_once() -> None:
    run = await run_up_to("watch 0")
    assert run.plan is not None
    for _ in range(3):
        await shift(run.world.ports, run.plan, 1, 1)
    await watch(run.world.ports, run.plan, 1, 1)
    await promote(run.world.ports, run.plan, 1)
    entries = run.world.ledger.by_release[("arithmetic", "rel-1")]
    assert [entry.data["step"] for entry in entries if entry.kind == "shifted"] == [0, 1, 2]

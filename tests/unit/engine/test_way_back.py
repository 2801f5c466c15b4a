"""The way back waits for nothing but the cluster, and no step starts whose beginning nobody noted."""

from __future__ import annotations

from typing import Any

import pytest

from sluice.errors import Refused, Unreachable
from tests.fakes import World
from tests.unit.engine.dag_run import DagRun


async def opened_first_step() -> DagRun:
    run = DagRun(World())
    await run.up_to("shift 0")
    return run


async def watch_first_step(run: DagRun) -> Any:
    return await dict(run.tasks())["watch 0"]()


async def test_a_regression_is_written_back_while_the_ledger_is_down() -> None:
    run = await opened_first_step()
    run.world.versions[run.world.record.canary].failing = 0.5
    run.world.clock.after(1.0, lambda: run.world.wire.down.add("ledger"))
    with pytest.raises(Unreachable, match="ledger"):
        await watch_first_step(run)
    assert run.world.traffic.weights == {"old": 100}
    assert "errors: canary" in run.world.record.reason


async def test_without_the_ledger_no_step_advances() -> None:
    run = await opened_first_step()
    run.world.clock.after(1.0, lambda: run.world.wire.down.add("ledger"))
    with pytest.raises(Unreachable, match="ledger"):
        await watch_first_step(run)
    assert "no verdict within max_hold" in run.world.record.reason


async def test_a_step_is_not_watched_if_the_ledger_does_not_know_its_start() -> None:
    run = await opened_first_step()
    entries = run.world.ledger.by_release[("arithmetic", "rel-1")]
    entries[:] = [entry for entry in entries if entry.kind != "shifted"]
    with pytest.raises(Refused, match="clear its shift"):
        await watch_first_step(run)
    assert run.world.record.step == 0

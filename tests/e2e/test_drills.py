"""Drills: real bad versions behind the real gateway, while users are served by the stable one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

from sluice.engine.faults import BLOCKED_BY, Fault, drill_id
from sluice.ledger.summary import summary
from sluice.orchestration.drill import drill_dag_id
from sluice.ports import Entry
from tests.e2e.stage import MODEL, Stage
from tests.e2e.users import Users

pytestmark = pytest.mark.timeout(600)

DRILL = drill_dag_id(MODEL)


@dataclass(frozen=True)
class Drilled:
    """A run of the drill DAG, told by Airflow and by the ledger."""

    state: str
    results: Sequence[dict[str, Any]]
    entries: dict[Fault, Sequence[Entry]]
    answered: int
    """Users' requests that were answered meanwhile."""

    @property
    def versions(self) -> list[str]:
        return [entry.data["version"] for told in self.entries.values() for entry in told if entry.kind == "plan"]


@pytest.fixture(scope="module")
def drilled(stable_world: Stage, users: Users) -> Drilled:
    stage, before = stable_world, users.answered
    quick = {"errors": {"margin": 0.3, "in_flight": "2s"}}
    stage.policy(gates=stage.gates(ttft="1s") | quick)
    with stage.airflow() as airflow:
        airflow.await_dag(DRILL)
        triggered = airflow.trigger(DRILL)
        run = airflow.wait(DRILL, triggered["dag_run_id"], 240, poll_seconds=1.0)
        results = airflow.xcom(DRILL, triggered["dag_run_id"], "conclude") or []
    at, name = datetime.fromisoformat(triggered["run_after"]), f"{DRILL}/{triggered['dag_run_id']}"
    ledger = stage.ledger()
    entries = {fault: asyncio.run(ledger.entries(MODEL, drill_id(fault, at, name))) for fault in Fault}
    return Drilled(run["state"], results, entries, users.answered - before)


def test_every_fault_is_blocked_by_a_gate_that_fits(stage: Stage, drilled: Drilled) -> None:
    assert drilled.state == "success", drilled.results
    gates = {Fault(result["fault"]): result["gate"] for result in drilled.results if result["passed"]}
    assert gates.keys() == set(Fault)
    assert {fault: gate for fault, gate in gates.items() if gate not in BLOCKED_BY[fault]} == {}


def test_no_user_meets_a_drill(stage: Stage, drilled: Drilled) -> None:
    assert len(set(drilled.versions)) == len(Fault)
    assert [stage.cluster.users_starts(version) for version in drilled.versions] == [[]] * len(Fault)
    assert drilled.answered > 100


def test_the_history_shows_drills_as_drills(stage: Stage, drilled: Drilled) -> None:
    told = {fault: summary(entries) for fault, entries in drilled.entries.items()}
    assert {row["drill"]: row["outcome"] for row in told.values()} == dict.fromkeys(map(str, Fault), "drill_passed")

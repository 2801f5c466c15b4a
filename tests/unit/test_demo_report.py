"""What the demonstration says: claims that hold or not, and errors that name the thing and the remedy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.demo.release import trigger
from benchmarks.demo.report import Claim, overhead, table, write
from benchmarks.demo.world import World, WorldError

STEP = {
    "step": 0,
    "name": "step 1",
    "weight": 5,
    "observed": 4.8,
    "verdict": "advance",
    "sentence": "errors: canary 0 of 10 requests bad",
    "seconds": 7.2,
}
RELEASE = {
    "revision": "r2",
    "version": "166ad4773c",
    "outcome": "promoted",
    "reason": "it was promoted",
    "examination": {"outcome": "non_inferior", "sentence": "quality: canary better on 5"},
    "steps": [STEP],
    "seconds": 60.4,
    "overhead_seconds": 18.0,
    "tasks": [
        {"use_case": "plan", "step": None, "overhead_seconds": 0.5},
        {"use_case": "shift", "step": 0, "overhead_seconds": 0.25},
    ],
}


@pytest.mark.parametrize(
    ("value", "relation", "holds"),
    [(45, "<=", True), (46, "<=", False), (20, ">=", False), (46, ">=", True), (45, "==", True), (0, "==", False)],
)
def test_a_claim_holds_or_it_does_not(value: float, relation: str, holds: bool) -> None:
    claim = Claim("overhead_seconds", value, relation, 45, "s")  # type: ignore[arg-type]
    assert claim.holds is holds
    assert ("DOES NOT HOLD" in str(claim)) is not holds


def test_the_table_shows_weights_desired_and_observed_with_the_verdict() -> None:
    shown = table([RELEASE])
    for part in ("r2", "5 %", "4.8 %", "advance", "canary better on 5", "it was promoted; overhead 18 s"):
        assert part in shown


def test_overhead_is_told_for_each_task() -> None:
    assert overhead(RELEASE) == "overhead 18.0 s, of it before plan 0.5, shift 1 0.2"


def test_the_report_is_the_same_for_machines(tmp_path: Path) -> None:
    write(tmp_path / "report.json", [RELEASE], [Claim("r3_exposed_requests", 0, "==", 0, "requests")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["releases"][0]["steps"][0]["observed"] == 4.8
    assert report["claims"] == [
        {"name": "r3_exposed_requests", "value": 0, "relation": "==", "limit": 0, "unit": "requests"}
    ]


def test_a_model_without_a_policy_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "arithmetic.yaml").touch()
    with pytest.raises(WorldError, match=r"model 'nonsense' has no policy .*; the known ones are arithmetic"):
        trigger(World(state=tmp_path, releases=tmp_path), "nonsense", "r1", "because")


def test_a_world_that_is_not_up_says_how_to_start_it(tmp_path: Path) -> None:
    with pytest.raises(WorldError, match="start it with `make up`"):
        World(state=tmp_path).variables()

"""What the benchmark writes, and when it fails."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.judge import __main__ as benchmark
from benchmarks.judge.claims import Claim
from benchmarks.judge.report import on_screen

CLAIMS = (
    {f"false_rollback_{n}" for n in (50, 100, 500, 2000)}
    | {f"{what}_{rate}" for what in ("exposure", "detection") for rate in ("20pct", "5pct", "2pct")}
    | {f"false_promotion_{case}" for case in ("boundary", "ramp", "bursts")}
    | {"exposure_late", "latency_requests", "latency_requests_single", "length_mix_false_alarm", "quality_type1"}
    | {"quality_pairs_10pt", "quality_pairs_38pt", "ramp_false_alarm", "burst_false_alarm", "soak_seconds", "tick_ms"}
)
CLOCK = ("tick_ms", "benchmark_minutes")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, Path]]:
    """The whole benchmark twice, with the same seed, on one process and on two."""
    found = []
    for processes in ("1", "2"):
        out = tmp_path_factory.mktemp("bench")
        asked = ["--repetitions", "2", "--seed", "3", "--processes", processes, "--out", str(out)]
        found.append((benchmark.main(asked), out))
    return found


def result(out: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((out / "judge.json").read_text(encoding="utf-8"))
    return read


@pytest.mark.slow
def test_the_result_depends_on_the_seed_and_not_on_the_processes(runs: list[tuple[int, Path]]) -> None:
    first, second = (result(out) for _, out in runs)
    for found in (first, second):
        del found["date"]
        for name in CLOCK:
            del found["claims"][name]
    assert first == second


@pytest.mark.slow
def test_every_claim_is_there_with_its_limit(runs: list[tuple[int, Path]]) -> None:
    found = result(runs[0][1])
    assert set(found["claims"]) >= CLAIMS
    assert set(found["machine"]) == {"cores", "python"}
    assert all({"value", "limit", "holds", "repetitions", "note"} <= set(claim) for claim in found["claims"].values())
    assert {"argo", "flagger", "kayenta"} <= set(found["peers"])


@pytest.mark.slow
def test_it_ends_with_1_exactly_if_a_claim_does_not_hold(runs: list[tuple[int, Path]]) -> None:
    for code, out in runs:
        assert code == (0 if all(claim["holds"] for claim in result(out)["claims"].values()) else 1)


@pytest.mark.slow
def test_tables_and_plots_are_drawn(runs: list[tuple[int, Path]]) -> None:
    out = runs[0][1]
    assert "`false_rollback_50`" in (out / "judge.md").read_text(encoding="utf-8")
    for name in ("judge-false-rollback.svg", "judge-exposure.svg"):
        assert (out / name).read_text(encoding="utf-8").startswith("<?xml")


def claim(value: float, relation: Any = "<=", unit: str = "") -> Claim:
    return Claim("a_claim", value, relation, 0.01, 2000, unit, "so it was")


@pytest.mark.parametrize(
    ("value", "relation", "holds"),
    [(0.01, "<=", True), (0.0101, "<=", False), (0.02, ">=", True), (math.nan, "<=", False), (math.inf, "<=", False)],
)
def test_a_claim_holds_up_to_its_limit(value: float, relation: str, holds: bool) -> None:
    assert claim(value, relation).holds is holds
    assert ("FAILS" in on_screen([claim(value, relation)])) is not holds


def test_one_claim_beyond_its_limit_makes_it_end_with_1() -> None:
    assert benchmark.exit_code([claim(0.01), claim(0.0)]) == 0
    assert benchmark.exit_code([claim(0.01), claim(0.011)]) == 1


def test_what_was_never_found_is_no_number_in_the_file() -> None:
    assert claim(math.inf, unit="requests").to_record()["value"] is None

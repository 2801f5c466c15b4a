"""What comes of a release by evidence: promoted, stopped before users see it, or rolled back while they do."""

from __future__ import annotations

from statistics import median
from typing import Any

import pytest

from benchmarks.demo.report import Claim, write
from benchmarks.demo.world import ROOT
from tests.e2e.stage import EDGES_SECONDS, MODEL, Finished, Stage, ladder, until

pytestmark = pytest.mark.timeout(300)

SERVERS_DEADLINE_SECONDS = 30.0
FAULT_BEGINS_AT = 100
"""User requests: 40 s at 10 % of 25 a second, far beyond the first step; 8 s at 50 %."""
LONG_SECOND_STEP = ladder(second={"requests": 2 * FAULT_BEGINS_AT})


def release_with_fault(stage: Stage, excused: set[str], fault: str, **policy: Any) -> Finished:
    stage.policy(**policy)
    name = stage.revision(fault.replace(":", "-").replace(".", ""), fault=fault, allow_faults=True)
    release = stage.release(name)
    excused.add(release.until("plan").data["version"])
    return release.finished()


@pytest.fixture(scope="module")
def fails_a_fifth(stable_world: Stage, excused: set[str]) -> Finished:
    """From the second user on, so that its examination, whose probes are no users, finds nothing."""
    return release_with_fault(stable_world, excused, "error_after:1:0.2")


@pytest.fixture(scope="module")
def fails_at_the_second_step(stable_world: Stage, excused: set[str]) -> Finished:
    return release_with_fault(stable_world, excused, f"error_after:{FAULT_BEGINS_AT}:0.5", steps=LONG_SECOND_STEP)


@pytest.fixture(scope="module")
def crashes_at_the_second_step(stable_world: Stage, excused: set[str]) -> Finished:
    return release_with_fault(stable_world, excused, f"crash_after:{FAULT_BEGINS_AT}", steps=LONG_SECOND_STEP)


@pytest.fixture(scope="module")
def three_times_slower(stable_world: Stage, excused: set[str]) -> Finished:
    """For users only, as `fails_a_fifth`: a limit just above stable can be too low for its examination, too."""
    limit = just_above_stable(stable_world)
    return release_with_fault(stable_world, excused, "slow_after:1:3", gates=stable_world.gates(tpot=limit))


@pytest.fixture(scope="module")
def hangs(stable_world: Stage, excused: set[str]) -> Finished:
    """Half of the users' requests, until the server's deadline of 30 s."""
    gates = stable_world.gates() | {"errors": {"margin": 0.3, "in_flight": "3s"}}
    return release_with_fault(stable_world, excused, "hang_after:1:0.5", gates=gates)


def just_above_stable(stage: Stage) -> str:
    """The lowest edge of the servers' histograms that leaves stable's median time per token a third of room."""
    (stable,) = stage.cluster.weights
    before = stage.cluster.time_per_token_buckets(stable)

    def enough() -> dict[float, float] | None:
        now = stage.cluster.time_per_token_buckets(stable)
        grown = {edge: count - before.get(edge, 0.0) for edge, count in now.items()}
        return grown if grown.get(float("inf"), 0.0) >= 100 else None

    counts = until(enough, "100 users' requests at stable")
    assert counts is not None
    middle = next(edge for edge, count in sorted(counts.items()) if count >= counts[float("inf")] / 2)
    return f"{next(edge for edge in EDGES_SECONDS if edge >= middle * 1.33):g}s"


# --- promoted --------------------------------------------------------------------------------------------------------


def test_a_first_version_is_promoted_although_there_is_nothing_to_compare_it_with(first: Finished) -> None:
    assert (first.state, first.told["outcome"]) == ("success", "promoted")


def test_a_better_revision_is_promoted_through_every_step(stage: Stage, promotion: tuple[Finished, Finished]) -> None:
    promoted, _ = promotion
    assert (promoted.state, promoted.told["outcome"]) == ("success", "promoted"), promoted.told["reason"]
    assert [step["weight"] for step in promoted.told["steps"]] == [10, 50, 90]
    assert [step["verdict"] for step in promoted.told["steps"]] == ["advance"] * 3
    assert promoted.result == {"outcome": "promoted", "sentence": promoted.told["reason"]}


def test_a_second_trigger_waits_and_finds_nothing_to_do(promotion: tuple[Finished, Finished]) -> None:
    _, again = promotion
    assert (again.state, again.told["outcome"]) == ("success", "nothing_to_do")
    assert again.told["reason"] == f"nothing to do: {MODEL} r2 (version {again.version}) already has all traffic"
    assert again.shifts() == []


# --- stopped before exposure -----------------------------------------------------------------------------------------


def test_damaged_weights_are_stopped_before_any_user_sees_them(stage: Stage) -> None:
    stopped = stage.release(stage.revision("r3", base="r3")).finished()
    assert (stopped.state, stopped.told["outcome"]) == ("failed", "rolled_back")
    assert stopped.sentence.startswith("stopped by the examination, before any user saw it: quality: ")
    assert stage.cluster.users_starts(stopped.version) == []


def test_a_canary_that_never_becomes_ready_is_rolled_back_by_its_deadline(stage: Stage, excused: set[str]) -> None:
    stopped = release_with_fault(stage, excused, "never_ready", deadlines={"ready": "5s", "drain": "10s"})
    assert (stopped.state, stopped.told["outcome"]) == ("failed", "rolled_back")
    assert "was not ready within deadlines.ready (5 s)" in stopped.sentence
    assert stage.cluster.users_starts(stopped.version) == []


# --- rolled back while users see it ----------------------------------------------------------------------------------


def test_a_canary_that_fails_a_fifth_of_the_requests_is_rolled_back(stage: Stage, fails_a_fifth: Finished) -> None:
    assert (fails_a_fifth.state, fails_a_fifth.told["outcome"]) == ("failed", "rolled_back")
    assert fails_a_fifth.sentence.startswith("errors: ")


def test_a_canary_that_fails_at_the_second_step_is_rolled_back_there(
    stage: Stage, fails_at_the_second_step: Finished
) -> None:
    finished = fails_at_the_second_step
    assert (finished.state, finished.told["outcome"]) == ("failed", "rolled_back")
    assert finished.sentence.startswith("errors: ")
    assert [step["verdict"] for step in finished.told["steps"]] == ["advance", "roll_back"]


def test_a_canary_that_crashes_at_the_second_step_is_rolled_back(
    stage: Stage, crashes_at_the_second_step: Finished
) -> None:
    finished = crashes_at_the_second_step
    assert (finished.state, finished.told["outcome"]) == ("failed", "rolled_back")
    assert finished.sentence.startswith(("the canary has no ready pod", "errors: "))
    assert [step["verdict"] for step in finished.told["steps"]] == ["advance", "roll_back"]


def test_a_canary_three_times_slower_is_rolled_back(stage: Stage, three_times_slower: Finished) -> None:
    assert (three_times_slower.state, three_times_slower.told["outcome"]) == ("failed", "rolled_back")
    assert three_times_slower.sentence.startswith("latency: ")


def test_a_canary_that_hangs_is_rolled_back_before_the_first_of_its_requests_has_ended(
    stage: Stage, hangs: Finished
) -> None:
    assert (hangs.state, hangs.told["outcome"]) == ("failed", "rolled_back")
    assert hangs.sentence.startswith("errors: ")
    (decided,) = (entry.at for entry in hangs.entries if entry.kind == "look" and entry.data["action"] == "roll_back")
    assert decided.timestamp() - stage.cluster.users_starts(hangs.version)[0] < SERVERS_DEADLINE_SECONDS


def test_no_user_starts_at_a_canary_half_a_second_after_the_verdict(
    stage: Stage,
    fails_a_fifth: Finished,
    fails_at_the_second_step: Finished,
    crashes_at_the_second_step: Finished,
    three_times_slower: Finished,
) -> None:
    finished = [fails_a_fifth, fails_at_the_second_step, crashes_at_the_second_step, three_times_slower]
    seconds = [each.seconds_from_verdict_to(stage.cluster.users_starts(each.version)[-1]) for each in finished]
    names = [f"regression_to_last_canary_start_seconds of {each.told['revision']}" for each in finished]
    claims = [Claim(name, value, "<=", 2.0, "s") for name, value in zip(names, seconds, strict=True)]
    claims.append(Claim("regression_to_last_canary_start_seconds", median(seconds), "<=", 0.5, "s"))
    write(ROOT / "var" / "e2e" / "figures.json", [each.told for each in finished], claims)
    assert [str(claim) for claim in claims if not claim.holds] == []

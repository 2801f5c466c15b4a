"""What can be said of a policy before anything is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sluice.engine.feasibility import Feasibility, feasibility, load_ratio, problems, span
from sluice.engine.gates import Calibration
from sluice.judge import Dispersion
from sluice.policy import ReleasePolicy
from sluice.ports import Prompt

PROMPTS = tuple(Prompt(f"p{n}", "sums", "1+1=", "2", "exact", 8) for n in range(1200))
UNBURSTY = Calibration(Dispersion(1.0, 1000), Dispersion(1.0, 1000))


def a_policy(gates: Mapping[str, Any] | None = None, **fields: Any) -> ReleasePolicy:
    return ReleasePolicy.model_validate(
        {
            "model": "arithmetic",
            "source": "dir://revisions",
            "image": {"repository": "models/arithmetic"},
            "serving": {"namespace": "ai", "host": "arithmetic.example.com"},
            "gates": {"quality": {"prompts": "prompts.jsonl"}, **(gates or {})},
            **fields,
        }
    )


def reckoned(policy: ReleasePolicy, rate: float | None = 200.0, prompts: Sequence[Prompt] = PROMPTS) -> Feasibility:
    return feasibility(policy, prompts, rate)


# --- times -----------------------------------------------------------------------------------------------------------


def test_the_default_policy_is_feasible_with_much_traffic() -> None:
    found = reckoned(a_policy())
    assert found.problems == ()
    assert found.ladder_seconds == 4 * 330 + 1800  # four holds, each a look after the share agreed, and the soak


def test_too_little_traffic_for_the_margins_is_refused_with_the_numbers() -> None:
    (problem,) = reckoned(a_policy(), rate=2.0).problems
    assert problem.startswith("max_hold: with 2 requests/s, step 4 (50 %)")
    assert "max_hold is 2 h" in problem
    assert "non_inferior within margins of 0.01 (errors) and 0.03 (latency)" in problem


def test_only_the_last_step_waits_for_non_inferiority() -> None:
    first, *_, last = reckoned(a_policy(), rate=20.0).steps
    assert first.step_seconds.p99 < first.faultless.seconds.median
    assert last.step_seconds == last.at_base_rate.seconds


def test_faultless_versions_need_the_same_number_every_time() -> None:
    step = reckoned(a_policy()).steps[-1]
    assert step.faultless.requests.median == step.faultless.requests.p99
    assert step.at_base_rate.requests.median < step.at_base_rate.requests.p90 < step.at_base_rate.requests.p99


def test_measured_bursts_need_fewer_requests_than_the_careful_guess() -> None:
    careful = feasibility(a_policy(), PROMPTS, 20.0).steps[-1].faultless.requests.median
    measured = feasibility(a_policy(), PROMPTS, 20.0, calibration=UNBURSTY).steps[-1].faultless.requests.median
    assert careful == pytest.approx(5 * measured)


def test_the_gate_that_needs_more_decides() -> None:
    slow = feasibility(a_policy(), PROMPTS, 20.0, slow_rate=0.2).steps[-1].at_base_rate.requests
    quick = feasibility(a_policy(), PROMPTS, 20.0, slow_rate=0.0).steps[-1].at_base_rate.requests
    assert slow.median > quick.median


def test_a_share_that_agrees_too_late_is_refused() -> None:
    steps = [{"weight": 5, "requests": 1}, {"weight": 6, "requests": 1}, {"weight": 50, "requests": 1}]
    problem = reckoned(a_policy(steps=steps), rate=1.0).problems[0]
    assert "step 2 (6 %)" in problem
    assert "requests show that the share agrees, then the hold of 5 min begins" in problem


def test_a_sample_that_takes_too_long_is_refused() -> None:
    policy = a_policy(steps=[{"weight": 5, "requests": 10_000}, {"weight": 50}])
    (problem,) = reckoned(policy, rate=20.0).problems
    assert "step 1 (5 %)" in problem
    assert "lower `requests`" in problem


def test_without_a_rate_there_are_no_times_but_a_warning() -> None:
    found = reckoned(a_policy(), rate=None)
    assert (found.steps, found.ladder_seconds, found.problems) == ((), None, ())
    assert any("set `rate`" in warning for warning in found.warnings)


def test_the_policys_own_rate_counts_before_a_measured_one() -> None:
    assert not problems(a_policy(rate=200.0), PROMPTS, rate=2.0)
    assert problems(a_policy(), PROMPTS, rate=2.0)


# --- holds and load --------------------------------------------------------------------------------------------------


def test_a_hold_of_less_than_two_looks_is_doubted() -> None:
    policy = a_policy(steps=[{"weight": 5, "hold": "45s"}, {"weight": 50}])
    assert any(
        warning.startswith("steps[0].hold: 45 s is less than two looks") for warning in reckoned(policy).warnings
    )


def test_holds_that_never_decide_are_doubted() -> None:
    policy = a_policy(steps=[{"weight": 50, "hold": "1m"}])
    assert any("the traffic decides" in warning for warning in reckoned(policy, rate=20.0).warnings)
    assert not any("the traffic decides" in warning for warning in reckoned(a_policy()).warnings)


def test_equal_pods_have_equal_load_at_half_the_traffic() -> None:
    assert load_ratio(50) == 1.0
    assert load_ratio(25) == pytest.approx(1 / 3)


def test_a_ladder_whose_canary_has_more_load_per_pod_is_refused() -> None:
    (problem,) = reckoned(a_policy(steps=[{"weight": 50}, {"weight": 75}])).problems
    assert "3.0 times at 75 %" in problem
    assert "end the ladder at 60 % or below" in problem


def test_a_ladder_that_ends_on_idle_pods_is_refused() -> None:
    problems = reckoned(a_policy(steps=[{"weight": 5}, {"weight": 10}])).problems
    assert any("the ladder ends at 10 %, where a pod of the canary has 0.11" in problem for problem in problems)


def test_what_a_failing_canary_costs_is_noted() -> None:
    notes = [note for note in reckoned(a_policy()).notes if "is rolled back at" in note]
    assert [note.split(" of its requests")[0] for note in notes] == [
        "a canary that fails 20 %",
        "a canary that fails 5 %",
    ]


def test_it_is_noted_from_where_on_latency_is_compared_under_like_load() -> None:
    note, *_ = reckoned(a_policy()).notes
    assert note.startswith("latency is compared under like load from 50 % on")
    assert "0.33 at 25 %" in note
    alone = reckoned(a_policy(steps=[{"weight": 50}])).notes
    assert not any("latency" in note for note in alone)


# --- contradictions --------------------------------------------------------------------------------------------------


def test_a_margin_that_the_prompts_cannot_certify_is_refused() -> None:
    (problem,) = reckoned(a_policy({"quality": {"prompts": "few.jsonl", "margin": 0.01}})).problems
    assert "cannot be certified with the 1200 prompts of few.jsonl" in problem
    assert "raise the margin or add prompts" in problem


def test_rubric_prompts_need_a_judge_model() -> None:
    asked = (*PROMPTS, Prompt("essay", "essays", "Write.", "-", "rubric", 8))
    (problem,) = reckoned(a_policy(), prompts=asked).problems
    assert problem.startswith("gates.quality.rubric: is missing, but 1 prompts")
    rubric = {"url": "https://judge.example.com/v1", "model": "judge-1"}
    assert not reckoned(a_policy({"quality": {"prompts": "p.jsonl", "rubric": rubric}}), prompts=asked).problems


def test_a_limit_of_tokens_above_every_prompts_is_fine() -> None:
    assert not reckoned(a_policy({"behaviour": {"long_tokens": 100_000}})).problems


@pytest.mark.parametrize("name", ["rollback", "promote"])
def test_an_error_rate_of_a_coin_is_refused(name: str) -> None:
    assert any(problem.startswith(f"alpha.{name}: 0.5") for problem in reckoned(a_policy(alpha={name: 0.5})).problems)


def test_a_budget_of_many_false_alarms_is_doubted() -> None:
    warnings = reckoned(a_policy(alpha={"rollback": 0.1})).warnings
    assert any("one healthy release in 10" in warning for warning in warnings)


def test_naming_an_event_twice_is_refused() -> None:
    (problem,) = reckoned(a_policy({"behaviour": {"events": ["empty", "empty"]}})).problems
    assert problem == "gates.behaviour.events: names empty 2 times; once is enough"


@pytest.mark.parametrize("schedule", ["every monday", "0 0 30 2 *", ""])
def test_a_schedule_that_never_fires_is_refused(schedule: str) -> None:
    (problem,) = reckoned(a_policy(drill={"schedule": schedule})).problems
    assert problem.startswith(f"drill.schedule: {schedule!r} is no cron expression")


def test_drills_must_come_oftener_than_they_expire() -> None:
    rare, often = ({"schedule": "0 6 * * 1", "max_age": age} for age in ("3d", "8d"))
    assert any("3 days" in warning for warning in reckoned(a_policy(drill=rare)).warnings)
    assert not any("drill" in warning for warning in reckoned(a_policy(drill=often)).warnings)


def test_patience_that_outlasts_the_release_is_doubted() -> None:
    data = {"missing": {"after": "3h", "then": "roll_back"}, "sparse": {"after": "3h"}}
    doubted = [warning for warning in reckoned(a_policy(data=data)).warnings if warning.startswith("data.")]
    assert [warning.split(":")[0] for warning in doubted] == ["data.missing.after"]


@pytest.mark.parametrize(("seconds", "text"), [(41, "41 s"), (330, "5.5 min"), (9000, "2.5 h")])
def test_times_are_written_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert span(seconds) == text

"""Whether a policy can work at all, reckoned before anything is started: for lint and for the plan. Pure.

A policy may be well formed and yet never let a version through: too little traffic for its margins, too few prompts,
pods that carry unequal load. What can be reckoned from the policy, its prompt set and the traffic stands here; what
the world says (images, clusters) does not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sluice.engine.consistency import contradictions, doubts
from sluice.engine.gates import UNMEASURED, Calibration, alpha_split
from sluice.judge import Needed, requests_needed, requests_to_detect, share_requests_needed
from sluice.policy import ReleasePolicy
from sluice.ports import Prompt

BASE_RATE = 0.005
"""Share of bad requests that is assumed of a healthy version where none was measured."""

FAILING_RATES = (0.20, 0.05)
"""Canaries whose detection is told."""

HALF = 50
"""Weight in percent at which both versions have the same load; more of it does not help."""
COMPARABLE = 1.5
"""Load per pod may differ by this factor between the versions without being taken for a difference in latency. (At a
factor of 2 the same version shows 5.0 % slow requests against 1.1 %.)"""


@dataclass(frozen=True)
class Wait:
    """What one condition of a step takes: requests, and seconds after the weight was written."""

    requests: Needed
    seconds: Needed


@dataclass(frozen=True)
class StepTimes:
    """When a step of a healthy release ends; seconds are rounded up to looks."""

    weight: int
    load_ratio: float
    """The canary's requests per pod over stable's."""
    agree: Wait
    """Until the observed share agrees with the weight; requests of both versions."""
    sample: Wait
    """Until the step's least number of the canary's requests."""
    faultless: Wait
    """Until errors and latency are non_inferior if neither version has a bad request; the canary's requests."""
    at_base_rate: Wait
    """The same at the base rates of bad requests."""
    step_seconds: Needed
    """Until the step advances: hold after agreement, sample, and at the last step non-inferiority."""


@dataclass(frozen=True)
class Feasibility:
    """What came of the reckoning."""

    rate: float | None
    steps: tuple[StepTimes, ...]
    """Empty where the rate is not known."""
    ladder_seconds: float | None
    """The whole ladder with its soak, at the median of each step; building, starting and examining come before."""
    problems: tuple[str, ...]
    """Why the policy cannot work, each with its remedy."""
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    """What is as it should be, and good to know."""


def problems(
    policy: ReleasePolicy, prompts: Sequence[Prompt], rate: float | None, calibration: Calibration = UNMEASURED
) -> Sequence[str]:
    """Why the policy cannot work; `rate` as measured, in requests per second, counts unless the policy has its own."""
    return feasibility(policy, prompts, policy.rate or rate, calibration=calibration).problems


def feasibility(
    policy: ReleasePolicy,
    prompts: Sequence[Prompt] | None,
    rate: float | None,
    base_rate: float = BASE_RATE,
    slow_rate: float = BASE_RATE,
    calibration: Calibration = UNMEASURED,
) -> Feasibility:
    """Reckon everything.

    Args:
        prompts: the prompt set; None if it cannot be read, then nothing is said of it.
        rate: users' requests per second; None if nobody knows it.
        base_rate: share of a healthy version's requests that fail.
        slow_rate: share of a healthy version's requests over a latency limit.
        calibration: how bursty bad requests are; unmeasured, κ is 5.
    """
    found = [*contradictions(policy, prompts), *_overloaded(policy), *_idle(policy)]
    steps: tuple[StepTimes, ...] = ()
    if rate:
        numbers = range(len(policy.steps))
        steps = tuple(_step(policy, number, rate, base_rate, slow_rate, calibration) for number in numbers)
        found += _too_slow(policy, steps, rate)
    warnings = [*doubts(policy), *_holds(policy, steps)]
    if not rate:
        warnings.append(
            "rate: the requests per second are not known, so no times can be reckoned: set `rate` in the policy, give "
            "--rate, or release once, which measures it"
        )
    ladder_seconds = sum(step.step_seconds.median for step in steps) + policy.soak.total_seconds() if steps else None
    notes = [*_like_load(policy), *(_detection(policy, rate, base_rate, calibration) if rate else [])]
    return Feasibility(rate, steps, ladder_seconds, tuple(found), tuple(warnings), tuple(notes))


# --- times -----------------------------------------------------------------------------------------------------------


def _step(
    policy: ReleasePolicy, number: int, rate: float, base_rate: float, slow_rate: float, calibration: Calibration
) -> StepTimes:
    step = policy.steps[number]
    canary_rate = rate * step.weight / 100
    tick = policy.tick.total_seconds()

    def wait(requests: Needed, per_second: float) -> Wait:
        return Wait(requests, Needed(*(tick * math.ceil(count / per_second / tick) for count in requests)))

    agree = wait(share_requests_needed(policy.steps[number - 1].weight if number else 0, step.weight), rate)
    sample = wait(Needed(*[float(step.requests)] * 3), canary_rate)
    faultless = wait(_non_inferior(policy, step.weight, 0.0, 0.0, calibration), canary_rate)
    at_base_rate = wait(_non_inferior(policy, step.weight, base_rate, slow_rate, calibration), canary_rate)
    last = number == len(policy.steps) - 1
    hold = step.hold.total_seconds()
    step_seconds = Needed(
        *(
            max(agreed + hold, sampled, shown if last else 0.0)
            for agreed, sampled, shown in zip(agree.seconds, sample.seconds, at_base_rate.seconds, strict=True)
        )
    )
    return StepTimes(step.weight, load_ratio(step.weight), agree, sample, faultless, at_base_rate, step_seconds)


def load_ratio(weight: int) -> float:
    """The canary's requests per pod over stable's: both versions have `serving.replicas` pods."""
    return weight / (100 - weight)


def _non_inferior(
    policy: ReleasePolicy, weight: int, base_rate: float, slow_rate: float, calibration: Calibration
) -> Needed:
    """The canary's requests until errors and latency both are non_inferior: the larger number of each quantile."""
    gates = (
        (policy.gates.errors.margin, base_rate, calibration.errors.kappa),
        (policy.gates.latency.margin, slow_rate, calibration.latency.kappa),
    )
    alpha = policy.alpha.promote
    needed = [requests_needed(margin, rate, load_ratio(weight), kappa, alpha) for margin, rate, kappa in gates]
    return Needed(*(max(counts) for counts in zip(*needed, strict=True)))


# --- what the times mean ---------------------------------------------------------------------------------------------


def _too_slow(policy: ReleasePolicy, steps: Sequence[StepTimes], rate: float) -> list[str]:
    """Steps that one healthy release in a hundred, or more, does not leave within max_hold."""
    longest = policy.max_hold.total_seconds()
    found = []
    for number, step in enumerate(steps, start=1):
        if step.step_seconds.p99 > longest:
            found.append(
                f"max_hold: with {rate:.3g} requests/s, step {number} ({step.weight} %) of a healthy release may take "
                f"{span(step.step_seconds.p99)} (p99; median {span(step.step_seconds.median)}), but max_hold is "
                f"{span(longest)}: {_slowest(policy, number, step)}"
            )
    return found


def _slowest(policy: ReleasePolicy, number: int, step: StepTimes) -> str:
    """What of a step takes longest, and what helps."""
    hold = policy.steps[number - 1].hold.total_seconds()
    if step.agree.seconds.p99 + hold == step.step_seconds.p99:
        return (
            f"{step.agree.requests.p99:.0f} requests show that the share agrees, then the hold of {span(hold)} begins; "
            "raise max_hold, or take a bigger step"
        )
    if step.sample.seconds.p99 == step.step_seconds.p99:
        return f"the canary must answer {step.sample.requests.p99:.0f} requests; lower `requests`, or raise max_hold"
    errors, latency = policy.gates.errors.margin, policy.gates.latency.margin
    weight = ", or the last weight" if step.weight < HALF else ""
    return (
        f"{step.at_base_rate.requests.p99:.0f} of the canary's requests show that it is non_inferior within margins of "
        f"{errors:g} (errors) and {latency:g} (latency); raise max_hold or the smaller margin{weight}"
    )


def _holds(policy: ReleasePolicy, steps: Sequence[StepTimes]) -> list[str]:
    """Holds that decide nothing."""
    tick = policy.tick.total_seconds()
    found = [
        f"steps[{number}].hold: {span(step.hold.total_seconds())} is less than two looks (tick: {span(tick)}), far too "
        "short for what only shows with time"
        for number, step in enumerate(policy.steps)
        if step.hold.total_seconds() < 2 * tick
    ]
    binding = [
        step.agree.seconds.median + chosen.hold.total_seconds() >= step.step_seconds.median
        for step, chosen in zip(steps, policy.steps, strict=False)
    ]
    if binding and not any(binding):
        found.append(
            "steps: at every step the traffic decides how long it takes, no hold does; raise the holds if faults of "
            "yours need time to show"
        )
    return found


def _overloaded(policy: ReleasePolicy) -> list[str]:
    """Steps at which a healthy canary looks slow, because its pods have more to do than stable's."""
    heavy = [step.weight for step in policy.steps if load_ratio(step.weight) > COMPARABLE]
    if not heavy:
        return []
    ratios = ", ".join(f"{load_ratio(weight):.1f} times at {weight} %" for weight in heavy)
    most = math.floor(100 * COMPARABLE / (1 + COMPARABLE))
    return [
        f"steps: both versions have {policy.serving.replicas} pods, so each of the canary's has more requests than one "
        f"of stable's ({ratios}) and a healthy version looks slow: end the ladder at {most} % or below, promote does "
        "the rest"
    ]


def _idle(policy: ReleasePolicy) -> list[str]:
    """A ladder at whose end a slower canary looks as fast as stable, because its pods have less to do."""
    last = policy.steps[-1].weight
    if load_ratio(last) >= 1 / COMPARABLE:
        return []
    return [
        f"steps: the ladder ends at {last} %, where a pod of the canary has {load_ratio(last):.2f} of the requests of "
        "one of stable's: latency would be shown to be non_inferior on idle pods, and a slower version pass; end "
        "the ladder at 50 %, where the load is equal"
    ]


def _like_load(policy: ReleasePolicy) -> list[str]:
    """From where on latency says something about the version rather than about its load."""
    like = next((step.weight for step in policy.steps if load_ratio(step.weight) >= 1 / COMPARABLE), None)
    light = [step.weight for step in policy.steps if like is None or step.weight < like]
    if like is None or not light:
        return []
    ratios = ", ".join(f"{load_ratio(weight):.2f} at {weight} %" for weight in light)
    return [
        f"latency is compared under like load from {like} % on; before, a pod of the canary has less to do than one of "
        f"stable's ({ratios}), so a slower version may look as fast"
    ]


def _detection(policy: ReleasePolicy, rate: float, base_rate: float, calibration: Calibration) -> list[str]:
    """What the first step costs users before a failing canary is rolled back."""
    weight, tick = policy.steps[0].weight, policy.tick.total_seconds()
    per_second = rate * weight / 100
    found = []
    for failing in FAILING_RATES:
        requests = requests_to_detect(
            failing,
            base_rate,
            weight,
            calibration.errors.kappa_errors,
            alpha_split(policy).errors,
            policy.gates.errors.max_ratio,
            window=max(1, round(per_second * tick)),
        )
        if math.isfinite(requests):
            when = span(tick * math.ceil(requests / per_second / tick))
            found.append(
                f"a canary that fails {100 * failing:g} % of its requests is rolled back at {weight} % after about "
                f"{requests:.0f} of them, {when} (median)"
            )
    return found


def span(seconds: float) -> str:
    """A time for a sentence: `41 s`, `14 min`, `2.5 h`."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"

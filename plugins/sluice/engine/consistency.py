"""Parts of a policy that are each well formed, and cannot hold together. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sluice.engine.gates import alpha_split
from sluice.judge import smallest_certifiable_margin
from sluice.policy import ReleasePolicy
from sluice.ports import Prompt

USUAL_ROLLBACK = 0.05
"""A budget of false alarms above it makes healthy releases fail so often that people stop believing the gates."""
FIRINGS = 60
"""How far a drill's schedule is looked at: two months of a daily one."""
A_MONDAY = datetime(2026, 1, 5, tzinfo=UTC)


def contradictions(policy: ReleasePolicy, prompts: Sequence[Prompt] | None) -> Sequence[str]:
    """Why the policy cannot work with its prompt set, its error rates or its schedule; each with field and remedy."""
    asked = [] if prompts is None else _prompts(policy, prompts)
    return [*asked, *_alphas(policy), *_repeated(policy), *_drill(policy)]


def doubts(policy: ReleasePolicy) -> Sequence[str]:
    """What can be, but is hardly meant."""
    return [*_alarms(policy), *_patience(policy), *_rare_drills(policy)]


def _prompts(policy: ReleasePolicy, prompts: Sequence[Prompt]) -> list[str]:
    quality = policy.gates.quality
    found = []
    smallest = smallest_certifiable_margin(len(prompts), policy.alpha.promote)
    if quality.margin < smallest:
        found.append(
            f"gates.quality.margin: {quality.margin:g} cannot be certified with the {len(prompts)} prompts of "
            f"{quality.prompts}; the smallest margin they can show is {smallest:.3f}: raise the margin or add prompts"
        )
    judged = [prompt.id for prompt in prompts if prompt.scorer == "rubric"]
    if judged and quality.rubric is None:
        found.append(
            f"gates.quality.rubric: is missing, but {len(judged)} prompts of {quality.prompts} have the scorer "
            f"`rubric` (the first is {judged[0]}): name the judge model's url and model, or give them another scorer"
        )
    return found


def _alphas(policy: ReleasePolicy) -> list[str]:
    found = []
    total = alpha_split(policy).total
    if total > policy.alpha.rollback * (1 + 1e-9):
        found.append(
            f"alpha.rollback: the gates' shares add up to {total:g}, more than the {policy.alpha.rollback:g} that the "
            "policy allows; AlphaSplit gives a gate too much"
        )
    for name, value in (("rollback", policy.alpha.rollback), ("promote", policy.alpha.promote)):
        if value >= 0.5:
            found.append(f"alpha.{name}: {value:g} is no better than a coin; usual are .01 (rollback), .05 (promote)")
    return found


def _alarms(policy: ReleasePolicy) -> list[str]:
    if not USUAL_ROLLBACK < policy.alpha.rollback < 0.5:
        return []
    return [
        f"alpha.rollback: one healthy release in {1 / policy.alpha.rollback:.0f} may be rolled back; usual is .01, one "
        "in 100"
    ]


def _repeated(policy: ReleasePolicy) -> list[str]:
    lists: dict[str, Sequence[str]] = {
        "gates.behaviour.events": policy.gates.behaviour.events,
        "gates.contract.forbid": policy.gates.contract.forbid,
        "drill.faults": policy.drill.faults,
    }
    return [
        f"{field}: names {name} {count} times; once is enough"
        for field, names in lists.items()
        for name, count in Counter(names).items()
        if count > 1
    ]


def _patience(policy: ReleasePolicy) -> list[str]:
    """Times after which something would happen, had max_hold not ended the release before."""
    data = policy.data
    kinds = {
        "sparse": data.sparse,
        "missing": data.missing,
        "contradictory": data.contradictory,
        "unreachable": data.unreachable,
    }
    return [
        f"data.{name}.after: {patience.after} is not shorter than max_hold ({policy.max_hold}), which ends the release "
        "first; lower it, or say `then: hold`"
        for name, patience in kinds.items()
        if patience.then == "roll_back" and patience.after >= policy.max_hold
    ]


def _drill(policy: ReleasePolicy) -> list[str]:
    schedule = policy.drill.schedule
    if schedule is None or _firings(schedule):
        return []
    return [
        f"drill.schedule: {schedule!r} is no cron expression, or one that never fires; for example `0 6 * * 1`, "
        "Mondays at six"
    ]


def _rare_drills(policy: ReleasePolicy) -> list[str]:
    schedule, max_age = policy.drill.schedule, policy.drill.max_age
    if schedule is None or max_age is None:
        return []
    gaps = (after - before for before, after in itertools.pairwise(_firings(schedule)))
    apart = max(gaps, default=timedelta())
    if apart <= max_age:
        return []
    return [
        f"drill.max_age: {max_age} is shorter than the {apart} between two drills of {schedule!r}: releases will be "
        "refused in between; drill oftener, or raise max_age"
    ]


def _firings(schedule: str) -> list[datetime]:
    """The first ones; none for what is no cron expression."""
    # Here, because the import takes 50 ms and few policies need it.
    from croniter import CroniterBadDateError, croniter  # type: ignore[import-untyped]

    if not croniter.is_valid(schedule):
        return []
    try:
        return list(itertools.islice(croniter(schedule, A_MONDAY).all_next(datetime), FIRINGS))
    except CroniterBadDateError:
        return []

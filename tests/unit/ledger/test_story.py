"""A release's story: what the page tells, taken from what the engine recorded."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from sluice.errors import BadInput
from sluice.ledger.report import LookAt, Story, story_of
from sluice.ledger.report.evalues import e_values
from sluice.ports import Entry
from tests.fakes import MORNING
from tests.unit.ledger import releases
from tests.unit.ledger.releases import edited, looks_of, without


def told(entries: list[Entry]) -> Story:
    return story_of(entries, looks_of(entries))


def examined(entries: list[Entry]) -> Story:
    """What comes before the ladder, of evidence that only a test could think of."""
    return story_of(entries, [])


def replaced(entries: list[Entry], kind: str, **fields: Any) -> list[Entry]:
    return edited(entries, kind, lambda data: data | fields)


# --- the release as a whole ------------------------------------------------------------------------------------------


async def test_the_head_says_what_who_why_and_how_it_ended() -> None:
    story = told(await releases.promoted())
    assert (story.model, story.revision, story.outcome) == ("arithmetic", "r2", "promoted")
    assert (story.requested_by, story.reason, story.last_good) == ("somebody", "a test", "old")
    assert story.sentence.endswith("was promoted and has all traffic")
    assert story.triggered_at == MORNING


async def test_the_page_can_be_matched_with_the_ledger_by_its_last_hash() -> None:
    entries = await releases.promoted()
    story = told(entries)
    assert (story.entries, story.head_number, story.head) == (len(entries), entries[-1].number, entries[-1].hash)


@pytest.mark.parametrize(
    ("kind", "outcome", "why"),
    [
        ("blocked", "rolled_back", "ended before any user saw"),
        ("dry_run", "dry_run", "dry run"),
        ("refused", "refused", "refused before it touched anything"),
    ],
)
async def test_a_release_that_no_user_saw_says_why(kind: str, outcome: str, why: str) -> None:
    story = told(await releases.KINDS[kind]())
    assert story.outcome == outcome
    assert why in story.never_exposed
    assert story.panels == ()


async def test_tasks_and_the_time_between_them_fill_the_release() -> None:
    story = told(await releases.rolled_back())
    assert [task.name for task in story.tasks][:7] == [
        *("plan", "build", "begin", "deploy", "examine"),
        *("shift 1", "watch 1"),
    ]
    assert sum(task.seconds + task.waited_seconds for task in story.tasks) == pytest.approx(story.seconds)


def test_no_entries_make_no_story() -> None:
    with pytest.raises(BadInput, match="name a release that was planned"):
        story_of([], [])


# --- ladder and e-values ---------------------------------------------------------------------------------------------


async def test_the_ladder_has_weights_as_written_and_shares_as_seen() -> None:
    ladder = told(await releases.promoted()).ladder
    assert [point.percent for point in ladder.desired] == [20, 50, 90, 100]
    assert [(step.name, step.desired, step.action) for step in ladder.steps] == [
        ("step 1", 20, "advance"),
        ("step 2", 50, "advance"),
        ("soak", 90, "advance"),
    ]
    assert [step.observed and round(step.observed, -1) for step in ladder.steps] == [20, 50, 90]
    assert ladder.observed


async def test_a_roll_back_is_seen_at_the_look_that_decided_it() -> None:
    entries = await releases.rolled_back()
    decided = next(entry for entry in entries if entry.kind == "look")
    ladder = told(entries).ladder
    assert [(point.at, point.percent) for point in ladder.desired][1] == (decided.at, 0)
    assert ladder.steps[-1].action == "roll_back"


async def test_what_a_step_waited_for_adds_up_to_its_time() -> None:
    for step in told(await releases.promoted()).ladder.steps:
        assert sum(wait.seconds for wait in step.waits) == pytest.approx(step.seconds, abs=0.2)


async def test_with_the_share_s_verdicts_a_step_tells_waiting_for_it_from_its_hold() -> None:
    entries = await releases.promoted()
    shifted = next(entry for entry in entries if entry.kind == "shifted")
    agreed = {"gate": "share", "outcome": "non_inferior", "sentence": "share: as written", "numbers": {}}
    look = LookAt(shifted.at + timedelta(seconds=4), 0, 20, 20.5, [agreed])
    waits = story_of(entries, [look]).ladder.steps[0].waits
    assert [(wait.what, wait.seconds) for wait in waits][:2] == [("share to agree", 4.0), ("hold", 10.0)]


async def test_a_first_release_has_no_share_to_show() -> None:
    story = told(await releases.first())
    assert (story.first, story.last_good) == (True, "")
    assert [point.percent for point in story.ladder.desired] == [0, 0, 100, 100]
    assert all(step.observed is None for step in story.ladder.steps)


async def test_every_gate_s_e_values_are_told_with_their_limits() -> None:
    panels = {panel.gate: panel for panel in told(await releases.rolled_back()).panels}
    assert {"errors", "latency"} <= panels.keys()
    worse = next(series for series in panels["errors"].series if series.name == "regression")
    assert worse.reached
    assert not worse.promotes
    assert worse.highest >= worse.limit > 100
    assert {"ttft: non-inferiority", "tpot: non-inferiority"} <= {one.name for one in panels["latency"].series}


async def test_the_examination_s_e_values_are_told_where_they_ended() -> None:
    quality = {panel.gate: panel for panel in told(await releases.blocked()).examination}["quality"]
    assert next(series for series in quality.series if series.name == "regression").reached


def test_a_metric_without_a_limit_of_its_own_has_that_of_all() -> None:
    numbers = {
        "ttft_e_non_inferior": 3.0,
        "e_non_inferior_limit": 20.0,
        "e_floor": 1.0,
        "e_floor_limit": 9.0,
        "step": 1,
    }
    assert e_values(numbers) == [("ttft_e_non_inferior", 3.0, 20.0), ("e_floor", 1.0, 9.0)]


def test_an_e_value_without_a_limit_is_no_test() -> None:
    assert e_values({"e_regression": 3.0, "e_new_weight": 1.0, "e_new_weight_limit": 2.0}) == []


async def test_a_release_that_cannot_be_folded_any_more_is_told_by_the_looks_that_decided() -> None:
    story = story_of(await releases.promoted(), [])
    assert [round(point.percent, -1) for point in story.ladder.observed] == [20, 50]
    assert {"errors", "latency"} <= {panel.gate for panel in story.panels}


# --- latency ---------------------------------------------------------------------------------------------------------

BEFORE = [[0.1, 50], [0.5, 90], [None, 100]]
AFTER = [[0.1, 60], [0.5, 180], [None, 200]]


async def with_distributions(*recorded: dict[str, Any]) -> Story:
    plain = [entry for entry in await releases.promoted() if entry.kind != "distributions"]
    at = plain[-1].at
    more = [
        Entry(1000 + number, "distributions", at, {"step": number, "versions": versions}, "", "")
        for number, versions in enumerate(recorded)
    ]
    return examined([*plain, *more])


async def test_users_times_are_those_between_the_first_and_the_last_recording() -> None:
    story = await with_distributions({"old": {"ttft": BEFORE}}, {"old": {"ttft": AFTER}})
    (curve,) = story.latency.metrics[0].curves
    assert (story.latency.of, curve.role, curve.requests, curve.slow) == ("users' requests", "stable", 100, 10)
    assert [(point.edge, point.share) for point in curve.points] == [(0.1, 0.1), (0.5, 0.9), (math.inf, 1.0)]
    assert all(point.low < point.share for point in curve.points)


async def test_counters_that_started_anew_count_from_nothing() -> None:
    story = await with_distributions({"old": {"ttft": AFTER}}, {"old": {"ttft": BEFORE}})
    assert story.latency.metrics[0].curves[0].requests == 100


async def test_without_users_requests_the_probes_times_are_shown() -> None:
    story = told(await releases.dry_run())
    assert story.latency.of == "the examination's probes"
    metrics = {metric.name: metric for metric in story.latency.metrics}
    assert {curve.role for curve in metrics["e2e"].curves} == {"canary", "stable"}
    assert metrics["e2e"].limit_seconds == 20.0
    assert [curve.slow for curve in metrics["e2e"].curves] == [0, 0]


async def test_probes_over_the_limit_are_counted_exactly_however_many_there_are() -> None:
    requests = [{"prompt": str(n), "canary": {"e2e": 0.02 * n, "error": ""}} for n in range(1, 2001)]
    story = examined(replaced(await releases.dry_run(), "examined", requests=requests))
    (curve,) = story.latency.metrics[0].curves
    assert (curve.requests, curve.slow) == (2000, 1000)
    assert len(curve.points) < 220


# --- quality, contract, behaviour, fidelity --------------------------------------------------------------------------

PAIRS = [["a1", "add", 1.0, 1.0], ["a2", "add", 0.0, 1.0], ["s1", "sub", 1.0, 0.0], ["s2", "sub", 1.0, 1.0]]


def changed(prompt_id: str, canary: float, stable: float) -> dict[str, Any]:
    prompt = {"id": prompt_id, "category": "add", "prompt": "1+1=", "answer": "2", "scorer": "exact", "max_tokens": 8}
    answers = {role: {"text": role, "error": "", "finish_reason": "stop"} for role in ("canary", "stable")}
    return {"prompt": prompt, "answers": answers, "scores": {"canary": canary, "stable": stable}}


async def test_quality_is_told_by_category_with_the_largest_loss_first() -> None:
    story = examined(replaced(await releases.dry_run(), "examined", pairs=PAIRS))
    assert story.quality is not None
    rows = [(one.name, one.canary_mean, one.stable_mean, one.better, one.worse) for one in story.quality.categories]
    assert rows == [("add", 0.5, 1.0, 0, 1), ("sub", 1.0, 0.5, 1, 0)]
    assert (story.quality.total.pairs, story.quality.total.canary_mean) == (4, 0.75)


async def test_prompts_that_changed_sides_have_both_answers_and_scores_and_losses_come_first() -> None:
    sides = [changed("s1", 1.0, 0.0), changed("a2", 0.0, 1.0)]
    story = examined(replaced(await releases.dry_run(), "examined", pairs=PAIRS, changed_sides=sides))
    assert story.quality is not None
    assert [one.prompt_id for one in story.quality.changed] == ["a2", "s1"]
    assert [(said.role, said.text, said.score) for said in story.quality.changed[0].answers] == [
        ("canary", "canary", 0.0),
        ("stable", "stable", 1.0),
    ]


async def test_prompts_whose_answers_were_not_kept_are_named() -> None:
    story = examined(replaced(await releases.dry_run(), "examined", pairs=PAIRS, changed_sides=[changed("a2", 0, 1)]))
    assert story.quality is not None
    assert story.quality.changed_elsewhere == ("s1",)


async def test_a_first_release_s_scores_stand_alone() -> None:
    story = told(await releases.first())
    assert story.quality is not None
    assert not story.quality.compared
    assert all(one.stable_mean is None for one in story.quality.categories)


async def test_contract_differences_say_whether_the_policy_forbids_them() -> None:
    infos = {
        "canary": {"stop_tokens": [2], "version": "new", "tokenizer": "t"},
        "stable": {"stop_tokens": [2, 3], "version": "old", "tokenizer": "t"},
    }
    story = examined(replaced(await releases.dry_run(), "contract", infos=infos))
    assert story.contract is not None
    rows = [(one.name, one.forbidden, one.canary, one.stable) for one in story.contract.differences]
    assert rows == [("stop_tokens", True, "[2]", "[2, 3]"), ("version", None, "new", "old")]


async def test_odd_answers_are_counted_in_probes_and_in_users_answers() -> None:
    events = {(event.name, event.where): event for event in told(await releases.promoted(odd=0.004)).events}
    seen = events["truncated", "users"]
    assert seen.canary is not None
    assert seen.stable is not None
    assert 0 < seen.canary.rate < 0.05
    assert seen.stable.events == 0
    assert seen.stable.answers > 0


async def test_fidelity_is_the_mean_over_prompts_and_names_the_worst() -> None:
    texts = [["a1", 0.1, 30], ["a2", 0.5, 10]]
    story = examined(replaced(await releases.dry_run(), "examined", fidelity=texts))
    assert story.fidelity is not None
    assert story.fidelity.mean == pytest.approx(0.3)
    assert [text.prompt_id for text in story.fidelity.worst] == ["a2", "a1"]


async def test_verdicts_stand_in_order_and_a_sentence_that_stays_is_told_once() -> None:
    entries = await releases.rolled_back()
    looks = looks_of(entries)
    verdicts = story_of(entries, [look for look in looks for _ in range(3)]).verdicts
    assert [one.at for one in verdicts] == sorted(one.at for one in verdicts)
    meanwhile = [(one.where, one.gate, one.sentence) for one in verdicts if not one.decides]
    assert len(meanwhile) == len(set(meanwhile))
    decisions = [(one.where, one.outcome) for one in verdicts if one.decides]
    assert decisions == [("step 1", "roll_back"), ("settle", "roll_back"), ("end", "rolled_back")]


# --- what earlier versions of the library recorded -------------------------------------------------------------------

LATER = [
    ("examined", ("verdicts", "requests", "changed_sides", "probes", "fidelity", "seed", "categories")),
    ("contract", ("verdict", "differs")),
    ("window", ("totals",)),
    ("look", ("data",)),
    ("plan", ("request", "revision", "policy")),
    ("begun", ("last_good",)),
]


@pytest.mark.parametrize(("kind", "names"), LATER, ids=[kind for kind, _ in LATER])
async def test_a_release_that_recorded_less_has_a_shorter_story(kind: str, names: tuple[str, ...]) -> None:
    entries = await releases.promoted(odd=0.01)
    looks = looks_of(entries)
    for missing in [*([name] for name in names), list(names)]:
        assert story_of(without(entries, kind, *missing), looks).outcome == "promoted"


@pytest.mark.parametrize("kind", ["calibrated", "distributions", "contract", "examined", "begun", "look", "shifted"])
async def test_a_release_without_entries_of_a_kind_has_a_shorter_story(kind: str) -> None:
    entries = await releases.promoted()
    assert story_of([entry for entry in entries if entry.kind != kind], looks_of(entries)).outcome == "promoted"

"""A policy file: what it means, and how each mistake in it is told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice import policy
from sluice.errors import BadInput
from sluice.policy import TIME_EDGES_SECONDS, ReleasePolicy, parse

GOOD = """\
model: arithmetic
source: dir://models/arithmetic
image: {repository: registry.example.com/arithmetic}
serving:
  namespace: ai
  host: api.example.com
steps:
  - {weight: 5, hold: 10m, requests: 200}
  - {weight: 25, hold: 15m}
  - weight: 50
gates:
  quality:
    prompts: prompts/arithmetic.jsonl
  latency: {ttft: 500ms}
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(BadInput) as error:
        parse(text, "releases/arithmetic.yaml")
    return str(error.value).splitlines()


def changed(old: str, new: str) -> str:
    assert GOOD.count(old) == 1
    return GOOD.replace(old, new)


def test_everything_but_five_fields_has_a_safe_default() -> None:
    chosen = parse(GOOD, "a.yaml")
    assert chosen.ladder == (5, 25, 50)
    assert (chosen.steps[2].hold, chosen.steps[2].requests) == (timedelta(minutes=5), 50)
    assert (chosen.serving.replicas, chosen.serving.gpu, chosen.serving.memory, chosen.serving.cpu) == (
        2, 0, "16Gi", "4",
    )  # fmt: skip
    assert (chosen.gates.quality.margin, chosen.gates.quality.floor) == (0.05, 0.6)
    assert (chosen.gates.errors.max_ratio, chosen.gates.errors.margin, chosen.gates.errors.floor) == (1.0, 0.01, 0.95)
    assert chosen.gates.latency.limits_seconds == {"ttft": 0.5, "tpot": 0.05, "e2e": 20.0}
    assert (chosen.alpha.rollback, chosen.alpha.promote) == (0.01, 0.05)
    assert (chosen.tick, chosen.lease) == (timedelta(seconds=30), timedelta(minutes=5))
    assert (chosen.max_hold, chosen.soak) == (timedelta(hours=2), timedelta(minutes=30))
    assert chosen.deadlines.ready == timedelta(minutes=15)
    assert chosen.deadlines.drain == timedelta(minutes=5)
    assert (chosen.data.missing.after, chosen.data.missing.then) == (timedelta(minutes=5), "roll_back")
    assert {chosen.data.sparse.then, chosen.data.contradictory.then, chosen.data.unreachable.then} == {"hold"}
    assert (chosen.gates.errors.in_flight, chosen.gates.errors.min_excess) == (timedelta(minutes=1), None)
    assert (chosen.gates.fidelity.limit, chosen.drill.schedule, chosen.drill.max_age) == (None, None, None)
    assert chosen.image.context == Path("model_image")


def test_a_policy_without_steps_has_a_careful_ladder() -> None:
    without = GOOD[: GOOD.index("steps:")] + GOOD[GOOD.index("gates:") :]
    assert parse(without, "a.yaml").ladder == (5, 10, 25, 50)


MISTAKES = {
    "unknown field": (
        changed("model: arithmetic", "modell: arithmetic"),
        ["releases/arithmetic.yaml:1: model: is missing", "releases/arithmetic.yaml:1: modell: unknown field; known"],
    ),
    "unknown field of a part": (
        changed("{ttft: 500ms}", "{tfft: 500ms}"),
        ["releases/arithmetic.yaml:14: gates.latency.tfft: unknown field; known here: ceiling, e2e, margin, tpot"],
    ),
    "unknown field of a step": (
        changed("- weight: 50", "- {weight: 50, holds: 1m}"),
        ["releases/arithmetic.yaml:10: steps[2].holds: unknown field; known here: hold, requests, weight"],
    ),
    "ladder that goes down": (
        changed("weight: 25", "weight: 4"),
        ["releases/arithmetic.yaml:7: steps: step 2 has weight 4, but a ladder goes up: above 5"],
    ),
    "ladder that stands still": (
        changed("weight: 25", "weight: 5"),
        ["releases/arithmetic.yaml:7: steps: step 2 has weight 5, but a ladder goes up: above 5"],
    ),
    "weight over 100": (
        changed("- weight: 50", "- weight: 101"),
        [
            "releases/arithmetic.yaml:10: steps[2].weight: a ladder ends at 99 or below, because promote is the last",
            "(found 101)",
        ],
    ),
    "weight of 100": (
        changed("- weight: 50", "- weight: 100"),
        [
            "releases/arithmetic.yaml:10: steps[2].weight: a ladder ends at 99 or below, because promote is the last",
            "(found 100)",
        ],
    ),
    "weight of 0": (
        changed("weight: 5,", "weight: 0,"),
        ["releases/arithmetic.yaml:8: steps[0].weight: Input should be greater than or equal to 1 (found 0)"],
    ),
    "no steps": (
        GOOD[: GOOD.index("steps:")] + "steps: []\n" + GOOD[GOOD.index("gates:") :],
        ["releases/arithmetic.yaml:7: steps: Tuple should have at least 1 item"],
    ),
    "missing field": (
        changed("  host: api.example.com\n", ""),
        ["releases/arithmetic.yaml:4: serving.host: is missing"],
    ),
    "missing part": (
        GOOD[: GOOD.index("gates:")],
        ["releases/arithmetic.yaml:1: gates: is missing"],
    ),
    "duration without a unit": (
        changed("hold: 15m", "hold: 15"),
        ["releases/arithmetic.yaml:9: steps[1].hold: a duration is a number with a unit, for example 500ms, 30s"],
    ),
    "duration with a wrong unit": (
        changed("hold: 15m", "hold: 15 minutes"),
        ["releases/arithmetic.yaml:9: steps[1].hold: a duration is a number with a unit", "(found '15 minutes')"],
    ),
    "duration beyond all time": (
        GOOD + "soak: 99999999999999d\n",
        ["releases/arithmetic.yaml:15: soak: at most a year (found '99999999999999d')"],
    ),
    "limit off the edges": (
        changed("ttft: 500ms", "ttft: 450ms"),
        ["releases/arithmetic.yaml:14: gates.latency.ttft: 0.45s is no bucket edge", "the nearest are 0.4s and 0.5s"],
    ),
    "margin over 1": (
        GOOD + "  errors: {margin: 5}\n",
        ["releases/arithmetic.yaml:15: gates.errors.margin: Input should be less than 1 (found 5)"],
    ),
    "margin of 0": (
        changed("prompts: prompts/arithmetic.jsonl", "{prompts: a.jsonl, margin: 0}").replace(
            "quality:\n    {", "quality: {"
        ),
        ["gates.quality.margin: Input should be greater than 0 (found 0)"],
    ),
    "name that Kubernetes refuses": (
        changed("model: arithmetic", "model: Arithmetic_2"),
        ["releases/arithmetic.yaml:1: model: ", "(found 'Arithmetic_2')"],
    ),
    "source of an unknown kind": (
        changed("dir://models/arithmetic", "models/arithmetic"),
        ["releases/arithmetic.yaml:2: source: ", "dir://"],
    ),
    "max_hold below a hold": (
        GOOD + "max_hold: 10m\n",
        ["releases/arithmetic.yaml:15: max_hold: must be at least the longest hold of a step (0:15:00)"],
    ),
    "lease below three ticks": (
        GOOD + "tick: 1m\nlease: 2m\n",
        ["releases/arithmetic.yaml:16: lease: must be at least three ticks (0:03:00)"],
    ),
    "tick of nothing": (
        GOOD + "tick: 0s\n",
        ["releases/arithmetic.yaml:15: tick: must be more than 0s"],
    ),
    "text for a number": (
        changed("weight: 5,", "weight: few,"),
        ["releases/arithmetic.yaml:8: steps[0].weight: Input should be a valid integer", "(found 'few')"],
    ),
    "list for a mapping": (
        changed("  latency: {ttft: 500ms}", "  latency: [500ms]"),
        ["releases/arithmetic.yaml:14: gates.latency: "],
    ),
    "serving setting that is no text": (
        changed("  host: api.example.com\n", "  host: api.example.com\n  settings: {max_batch: [1]}\n"),
        ["releases/arithmetic.yaml:7: serving.settings.max_batch: a serving setting is a text, a number, true"],
    ),
}


@pytest.mark.parametrize(("text", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_with_file_line_field_and_remedy(text: str, told: list[str]) -> None:
    complaint = "\n".join(mistakes(text))
    for part in told:
        assert part in complaint


def test_one_mistake_is_one_line() -> None:
    for text, _ in [MISTAKES["missing field"], MISTAKES["serving setting that is no text"], MISTAKES["weight of 0"]]:
        assert len(mistakes(text)) == 1


def test_several_mistakes_are_told_at_once() -> None:
    told = mistakes(changed("weight: 5,", "weight: 0,").replace("hold: 15m", "hold: soon") + "soaks: 1m\n")
    assert [line.split(":")[1] for line in told] == ["8", "9", "15"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("model: [", "releases/arithmetic.yaml:2: not YAML: "),
        ("model: a\n\tsource: b\n", "releases/arithmetic.yaml:2: not YAML: "),
        ("", "releases/arithmetic.yaml: a policy is a mapping of fields, starting with `model:`"),
        ("- a\n- b\n", "releases/arithmetic.yaml: a policy is a mapping of fields"),
        ("model: a\n---\nmodel: b\n", "releases/arithmetic.yaml:2: not YAML: "),
        ("soak: 2026-99-99\n", "releases/arithmetic.yaml: not YAML: "),
        ("model: \x00\n", "releases/arithmetic.yaml: not YAML: "),
    ],
    ids=["open bracket", "tab", "empty", "list", "two documents", "impossible date", "binary"],
)
def test_what_is_no_yaml_mapping_is_told_with_its_line(text: str, told: str) -> None:
    assert mistakes(text)[0].startswith(told)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"missing.yaml: cannot be read: .*No such file"):
        policy.read(tmp_path / "missing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadInput, match=r"binary.yaml: cannot be read: .*utf-8"):
        policy.read(tmp_path / "binary.yaml")


def test_a_good_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "arithmetic.yaml").write_text(GOOD)
    assert policy.read(tmp_path / "arithmetic.yaml") == parse(GOOD, "a.yaml")


@pytest.mark.parametrize("unit", ["ms", "s", "m", "h"])
@given(number=st.integers(1, 5000))
def test_durations_are_what_they_say(unit: str, number: int) -> None:
    seconds = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] * number
    chosen = parse(GOOD + f"soak: {number}{unit}\n", "a.yaml")
    assert chosen.soak.total_seconds() == pytest.approx(seconds)


@pytest.mark.parametrize("edge", TIME_EDGES_SECONDS)
def test_every_bucket_edge_can_be_a_limit(edge: float) -> None:
    assert parse(changed("500ms", f"{edge}s"), "a.yaml").gates.latency.limits_seconds["ttft"] == edge
    assert parse(changed("500ms", f"{edge * 1000:g}ms"), "a.yaml").gates.latency.limits_seconds["ttft"] == edge


def test_limits_lie_on_the_edges_that_the_servers_are_told_to_have() -> None:
    text = changed("serving:\n", "serving:\n  settings: {time_buckets_seconds: '0.05,0.7,20,60'}\n")
    assert parse(text.replace("500ms", "700ms"), "a.yaml").gates.latency.limits_seconds["ttft"] == 0.7
    with pytest.raises(BadInput, match=r"gates.latency.ttft: 0.5s is no bucket edge .* nearest are 0.05s and 0.7s"):
        parse(text, "a.yaml")


@pytest.mark.parametrize("setting", ["", "a,b", "1,1", "2,1", "0,1", "1,inf", "nan"])
def test_edges_that_no_server_takes_are_refused(setting: str) -> None:
    text = changed("serving:\n", f"serving:\n  settings: {{time_buckets_seconds: '{setting}'}}\n")
    with pytest.raises(BadInput, match=r"serving.settings: time_buckets_seconds: .* like 0.1,0.5,1"):
        parse(text, "a.yaml")


@given(
    weights=st.lists(st.integers(1, 99), min_size=1, max_size=8, unique=True).map(sorted),
    soak=st.integers(0, 30 * 86400 * 1000),
    hold=st.integers(0, 7200 * 1000),
    margin=st.floats(0.001, 0.999),
)
def test_what_the_ledger_keeps_of_a_policy_gives_it_back(
    weights: list[int], soak: int, hold: int, margin: float
) -> None:
    steps = [{"weight": weight, "hold": f"{hold}ms"} for weight in weights]
    written = parse(GOOD, "a.yaml").model_dump(mode="json")
    written |= {"steps": steps, "soak": f"{soak}ms"}
    written["gates"]["errors"]["margin"] = margin
    chosen = ReleasePolicy.model_validate(written)
    assert ReleasePolicy.model_validate(chosen.model_dump(mode="json")) == chosen
    assert chosen.soak == timedelta(milliseconds=soak)


@given(st.text(max_size=60))
def test_no_text_whatever_brings_more_than_a_complaint(text: str) -> None:
    with pytest.raises(BadInput):
        parse(text, "a.yaml")

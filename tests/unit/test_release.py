"""The state machine of a release: every transition from every phase, and what no sequence of writers can break."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sluice import release as state
from sluice.errors import Ambiguous, Refused, SluiceError, Superseded
from sluice.release import HOLDBACK, NO_VERSION, UNDECIDED, Change, Phase, Record

LADDER = (5, 25, 50)
BEGUN = Record("rel-1", 1, Phase.BEGUN, "new", "old", LADDER, "token")


def at(phase: Phase, step: int | None = None) -> Record:
    return replace(BEGUN, phase=phase, step=step)


STATES: Mapping[str, Record] = {
    "begun": at(Phase.BEGUN),
    "examined": at(Phase.EXAMINED),
    "shifted 0": at(Phase.SHIFTED, 0),
    "advanced 0": at(Phase.ADVANCED, 0),
    "shifted 1": at(Phase.SHIFTED, 1),
    "advanced 1": at(Phase.ADVANCED, 1),
    "shifted 2": at(Phase.SHIFTED, 2),
    "advanced 2": at(Phase.ADVANCED, 2),
    "promoted": at(Phase.PROMOTED),
    "committed": at(Phase.COMMITTED),
    "rolled back": replace(at(Phase.ROLLED_BACK), epoch=2, reason="worse"),
    "closed, committed": replace(at(Phase.COMMITTED), closed=True),
    "closed, rolled back": replace(at(Phase.ROLLED_BACK), epoch=2, reason="worse", closed=True),
}


def shift_to(step: int) -> Change:
    return lambda record: state.shifted(record, step)


def advance(step: int) -> Change:
    return lambda record: state.advanced(record, step)


RAISING: Mapping[str, Change] = {
    "examined": state.examined,
    **{f"shifted {step}": shift_to(step) for step in range(3)},
    **{f"advanced {step}": advance(step) for step in range(3)},
    "promoted": state.promoted,
    "committed": state.committed,
}
UP = list(STATES)[:10]
"""The states up the ladder, in order."""
OPENS = {
    "examined": "begun",
    "shifted 0": "examined",
    "advanced 0": "shifted 0",
    "shifted 1": "advanced 0",
    "advanced 1": "shifted 1",
    "shifted 2": "advanced 1",
    "advanced 2": "shifted 2",
    "promoted": "advanced 2",
    "committed": "promoted",
}
"""Transition → the only state from which it goes up; from later ones it does nothing, from earlier ones it refuses."""


@pytest.mark.parametrize("change", RAISING)
@pytest.mark.parametrize("name", UP)
def test_a_step_up_is_taken_in_order_or_refused(name: str, change: str) -> None:
    record, target = STATES[name], STATES[change]
    if name == OPENS[change]:
        assert RAISING[change](record) == target
    elif UP.index(name) >= UP.index(change):
        assert RAISING[change](record) == record
    else:
        with pytest.raises(Refused):
            RAISING[change](record)


@pytest.mark.parametrize("name", ["rolled back", "closed, committed", "closed, rolled back"])
@pytest.mark.parametrize("epoch", [0, 1, 2, 3])
def test_nothing_goes_up_once_a_release_is_over(name: str, epoch: int) -> None:
    with pytest.raises(Superseded):
        state.fence(STATES[name], "rel-1", epoch)


@pytest.mark.parametrize("name", STATES)
def test_going_back_needs_no_epoch_and_works_from_every_undecided_state(name: str) -> None:
    record = STATES[name]
    back = state.rolled_back(record, "the reason")
    if record.phase in UNDECIDED:
        assert back == replace(record, phase=Phase.ROLLED_BACK, epoch=2, step=None, reason="the reason")
        assert state.weights(back) == {"old": 100}
    else:
        assert back == record


@pytest.mark.parametrize("name", STATES)
def test_only_a_decided_release_closes(name: str) -> None:
    record = STATES[name]
    if record.phase in UNDECIDED:
        with pytest.raises(Refused, match="closes when it is committed or rolled back"):
            state.closed(record)
    else:
        assert state.closed(record) == replace(record, closed=True)


@pytest.mark.parametrize("name", STATES)
def test_beginning_again_adopts_an_open_release_and_never_overwrites_last_good(name: str) -> None:
    record = STATES[name]

    def again() -> Record:
        return state.begin(record, release="rel-1", canary="new", last_good="new", ladder=LADDER, token="other")

    if record.closed or record.phase is Phase.ROLLED_BACK:
        with pytest.raises(Refused, match="trigger a new release instead of clearing its tasks"):
            again()
    else:
        assert again() == record


@pytest.mark.parametrize("name", STATES)
def test_another_release_begins_only_after_this_one_is_closed(name: str) -> None:
    record = STATES[name]

    def another() -> Record:
        return state.begin(record, release="rel-2", canary="newer", last_good="old", ladder=(9,), token="t")

    if record.closed:
        assert another() == Record("rel-2", 1, Phase.BEGUN, "newer", "old", (9,), "t")
    else:
        with pytest.raises(Refused, match="release rel-1 is open"):
            another()


def test_the_first_release_of_a_model_begins_without_a_record() -> None:
    record = state.begin(None, release="rel-1", canary="new", last_good=NO_VERSION, ladder=LADDER, token="token")
    assert record.first
    assert state.weights(record) == {NO_VERSION: 100}


@pytest.mark.parametrize(
    ("release", "epoch", "told"),
    [("rel-2", 1, "rel-2 no longer owns the model's traffic, rel-1 does"), ("rel-1", 0, "at epoch 1, this task at 0")],
)
def test_the_fence_lets_only_its_owner_and_epoch_through(release: str, epoch: int, told: str) -> None:
    with pytest.raises(Superseded, match=told):
        state.fence(BEGUN, release, epoch)
    assert state.fence(BEGUN, "rel-1", 1) == BEGUN


def test_a_model_that_nobody_releases_has_no_owner() -> None:
    with pytest.raises(Superseded, match="nobody does"):
        state.fence(None, "rel-1", 1)


# --- traffic ---------------------------------------------------------------------------------------------------------

WEIGHTS = {
    "begun": {"old": 100},
    "examined": {"old": 100},
    "shifted 0": {"old": 95, "new": 5},
    "advanced 1": {"old": 75, "new": 25},
    "promoted": {"new": 100 - HOLDBACK, "old": HOLDBACK},
    "committed": {"new": 100},
    "rolled back": {"old": 100},
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_record_says_who_has_how_much(name: str) -> None:
    assert state.weights(STATES[name]) == WEIGHTS[name]


@pytest.mark.parametrize("name", STATES)
def test_a_first_release_serves_nobody_until_it_is_promoted(name: str) -> None:
    record = replace(STATES[name], last_good=NO_VERSION)
    serves = record.phase in (Phase.PROMOTED, Phase.COMMITTED)
    assert state.weights(record) == {"new" if serves else NO_VERSION: 100}


@pytest.mark.parametrize("name", STATES)
def test_probes_reach_both_versions_until_the_release_is_closed(name: str) -> None:
    record = STATES[name]
    assert state.probed(record) == ({} if record.closed else {"canary": "new", "stable": "old"})
    assert "stable" not in state.probed(replace(record, last_good=NO_VERSION))


def test_last_good_is_the_version_that_has_all_traffic() -> None:
    assert state.last_good({"old": 100}, "arithmetic") == "old"
    with pytest.raises(Ambiguous, match=r"arithmetic: .*split \(old 90 %, new 10 %\).*trigger the release again"):
        state.last_good({"old": 90, "new": 10}, "arithmetic")


# --- annotations -----------------------------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
ladders = st.lists(st.integers(1, 99), min_size=1, max_size=6, unique=True).map(sorted).map(tuple)


@st.composite
def records(draw: st.DrawFn) -> Record:
    ladder, phase = draw(ladders), draw(st.sampled_from(Phase))
    step = draw(st.integers(0, len(ladder) - 1)) if phase in state.LADDER else None
    texts = [draw(names) for _ in range(5)]
    epoch, closed = draw(st.integers(1, 99)), draw(st.booleans())
    return Record(texts[0], epoch, phase, texts[1], texts[2], ladder, texts[3], step, texts[4], closed)


@given(records())
def test_a_record_survives_as_annotations(record: Record) -> None:
    annotations = state.to_annotations(record)
    assert all(isinstance(value, str) for value in annotations.values())
    assert state.from_annotations({**annotations, "other": "kept"}, "VirtualService ai/arithmetic") == record


def test_an_object_without_annotations_was_never_released() -> None:
    assert state.from_annotations({"somebody.else/release": "1"}, "anywhere") is None


ANNOTATIONS = state.to_annotations(STATES["shifted 1"])


@pytest.mark.parametrize("missing", [name for name in ANNOTATIONS if name != "sluice.dev/release"])
def test_a_missing_annotation_is_told_with_the_remedy(missing: str) -> None:
    damaged = {name: value for name, value in ANNOTATIONS.items() if name != missing}
    with pytest.raises(Ambiguous, match=f"ai/arithmetic: the annotations .*'{missing}'.*restore them, or remove all"):
        state.from_annotations(damaged, "VirtualService ai/arithmetic")


@pytest.mark.parametrize(
    ("name", "value"),
    [("epoch", "two"), ("phase", "paused"), ("ladder", "5;25"), ("ladder", ""), ("step", "x"), ("closed", "True"),
     ("step", ""), ("step", "3"), ("step", "-1"), ("phase", "promoted")],
)  # fmt: skip
def test_a_damaged_annotation_is_refused(name: str, value: str) -> None:
    with pytest.raises(Ambiguous, match="restore"):
        state.from_annotations({**ANNOTATIONS, state.PREFIX + name: value}, "VirtualService ai/arithmetic")


# --- any sequence of writers -----------------------------------------------------------------------------------------


class Writers(RuleBasedStateMachine):
    """Tasks of two releases, late ones among them, the guard, and a person, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.record: Record | None = None
        self.at_rest = "old"
        self.began = 0
        self.first_reason: str | None = None
        self.committed = False
        self.shares = [0]

    def write(self, change: Callable[[], Record]) -> None:
        before = self.record
        try:
            self.record = change()
        except SluiceError:
            assert self.record is before
            return
        self.shares.append(state.weights(self.record).get(self.record.canary, 0))

    @rule(ladder=ladders)
    def begin_another(self, ladder: tuple[int, ...]) -> None:
        name = f"rel-{self.began + 1}"
        if self.record is None or self.record.closed:
            self.began += 1
            self.first_reason, self.committed, self.shares = None, False, [0]
            if self.record is not None:
                self.at_rest = state.last_good(state.weights(self.record), "m")
        rest = self.at_rest
        self.write(
            lambda: state.begin(
                self.record, release=name, canary=f"new-{name}", last_good=rest, ladder=ladder, token="t"
            )
        )

    @precondition(lambda self: self.record is not None)
    @rule(last_good=st.sampled_from(["", "old", "other"]))
    def begin_again(self, last_good: str) -> None:
        record = self.record
        assert record is not None
        self.write(
            lambda: state.begin(
                record, release=record.release, canary="x", last_good=last_good, ladder=(1,), token="other"
            )
        )

    @precondition(lambda self: self.record is not None)
    @rule(change=st.sampled_from(sorted(RAISING)), late=st.sampled_from([0, 0, 0, 1]), foreign=st.booleans())
    def raise_it(self, change: str, late: int, foreign: bool) -> None:
        record = self.record
        assert record is not None
        owner = "rel-0" if foreign and late else record.release
        self.write(lambda: RAISING[change](state.fence(record, owner, 1 - late)))

    @precondition(lambda self: self.record is not None)
    @rule(reason=st.sampled_from(["worse", "the guard", "marked failed"]))
    def go_back(self, reason: str) -> None:
        record = self.record
        assert record is not None
        self.write(lambda: state.rolled_back(record, reason))

    @precondition(lambda self: self.record is not None)
    @rule()
    def close(self) -> None:
        record = self.record
        assert record is not None
        self.write(lambda: state.closed(record))

    @invariant()
    def weights_sum_to_100_over_one_or_two_versions(self) -> None:
        if self.record is not None:
            weights = state.weights(self.record)
            assert sum(weights.values()) == 100
            assert len(weights) in (1, 2)
            assert all(share > 0 for share in weights.values())

    @invariant()
    def last_good_can_have_everything_or_the_release_is_committed(self) -> None:
        if self.record is not None:
            back = state.rolled_back(self.record, "now")
            wanted = self.record.canary if self.record.phase is Phase.COMMITTED else self.at_rest
            assert state.weights(back) == {wanted: 100}
            assert state.closed(back).closed

    @invariant()
    def last_good_is_what_was_at_rest_before(self) -> None:
        if self.record is not None:
            assert self.record.last_good == self.at_rest

    @invariant()
    def an_end_is_for_ever(self) -> None:
        if self.record is None:
            return
        if self.committed:
            assert self.record.phase is Phase.COMMITTED
        if self.first_reason is not None:
            assert (self.record.phase, self.record.reason) == (Phase.ROLLED_BACK, self.first_reason)
        self.committed = self.record.phase is Phase.COMMITTED
        self.first_reason = self.record.reason if self.record.phase is Phase.ROLLED_BACK else None

    @invariant()
    def the_canary_climbs_step_by_step_and_falls_only_to_nothing(self) -> None:
        if self.record is not None:
            rungs = [0, *self.record.ladder, 100 - HOLDBACK, 100]
            for before, after in itertools.pairwise(self.shares):
                assert after in (before, 0) or (before, after) in itertools.pairwise(rungs)

    @invariant()
    def what_the_cluster_keeps_gives_the_record_back(self) -> None:
        if self.record is not None:
            assert state.from_annotations(state.to_annotations(self.record), "here") == self.record


TestWriters = Writers.TestCase

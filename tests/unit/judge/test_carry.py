import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice.judge import Arm, Arms, InvalidEvidence
from sluice.judge.carry import Carried

arms = st.builds(
    Arms,
    st.integers(0, 2).map(lambda n: Arm(n, n // 2)),
    st.integers(0, 2).map(lambda n: Arm(n, n // 2)),
)


def test_a_window_without_canary_requests_is_carried_into_the_next() -> None:
    carried, complete = Carried().take(0, ("all",), {"all": Arms(Arm(0, 0), Arm(20, 3))})
    assert complete == {}

    carried, complete = carried.take(0, ("all",), {"all": Arms(Arm(2, 1), Arm(10, 0))})

    assert complete == {"all": Arms(Arm(2, 1), Arm(30, 3))}
    assert carried.pending == {}


def test_a_new_step_carries_nothing_of_the_old_one() -> None:
    carried, _ = Carried().take(0, ("all",), {"all": Arms(Arm(0, 0), Arm(20, 3))})

    _, complete = carried.take(1, ("all",), {"all": Arms(Arm(2, 1), Arm(10, 0))})

    assert complete == {"all": Arms(Arm(2, 1), Arm(10, 0))}


def test_without_a_stable_version_only_the_canary_is_waited_for() -> None:
    _, complete = Carried().take(0, ("all",), {"all": Arms(Arm(1, 0), None)})

    assert complete == {"all": Arms(Arm(1, 0), None)}


def test_a_window_of_the_other_kind_is_not_joined() -> None:
    carried, _ = Carried().take(0, ("all",), {"all": Arms(Arm(0, 0), Arm(20, 3))})

    _, complete = carried.take(0, ("all",), {"all": Arms(Arm(2, 1), None)})

    assert complete == {"all": Arms(Arm(2, 1), None)}


def test_a_stratum_that_was_not_announced_is_refused() -> None:
    with pytest.raises(InvalidEvidence, match="'xl' is none of short, long"):
        Carried().take(0, ("short", "long"), {"xl": Arms(Arm(1, 0), Arm(1, 0))})


@given(st.lists(st.dictionaries(st.sampled_from(["short", "long"]), arms), max_size=20))
@settings(deadline=None)
def test_no_request_is_lost_or_counted_twice(windows: list[dict[str, Arms]]) -> None:
    carried, given_back = Carried(), Arms(Arm(0, 0), Arm(0, 0))
    for window in windows:
        carried, complete = carried.take(0, ("short", "long"), window)
        for ready in complete.values():
            assert ready.complete
            given_back = ready.joined(given_back)
    for waiting in carried.pending.values():
        given_back = waiting.joined(given_back)

    everything = Arms(Arm(0, 0), Arm(0, 0))
    for window in windows:
        for part in window.values():
            everything = part.joined(everything)
    assert given_back == everything


@pytest.mark.parametrize(("requests", "bad"), [(3, 4), (3, -1)])
def test_counts_that_cannot_be_are_refused(requests: int, bad: int) -> None:
    with pytest.raises(InvalidEvidence, match="cannot be"):
        Arm(requests, bad)

"""Healthy releases: how often each rule returns one."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np

from benchmarks.judge import shipped
from benchmarks.judge.calibration import calibrated
from benchmarks.judge.peers import argo, flagger, kayenta
from benchmarks.judge.runner import Cell, Outcome
from benchmarks.judge.shipped import HOLD_LOOKS, MAX_HOLD_LOOKS, METRICS, Gates, Look
from benchmarks.judge.streams import Counts, healthy, independent, ladder
from sluice.engine.gates import UNMEASURED
from sluice.judge import Arms

REQUESTS_PER_LOOK = (50, 100, 500, 2000)
LOOKS = HOLD_LOOKS * shipped.SOAK
KAYENTA_WEIGHTS = {"errors": 50.0, "latency": 50.0}


def cells() -> list[Cell]:
    found = [Cell(f"release_{requests}", partial(release, requests=requests)) for requests in REQUESTS_PER_LOOK]
    unmeasured = (partial(release, requests=requests, with_calibration=False) for requests in REQUESTS_PER_LOOK)
    return found + [
        Cell(f"release_{requests}_unmeasured", run, share=0.25)
        for requests, run in zip(REQUESTS_PER_LOOK, unmeasured, strict=True)
    ]


def release(rng: np.random.Generator, requests: int, with_calibration: bool = True) -> Outcome:
    """One healthy release.

    Forty looks decide about false rollbacks; then the last step goes on until all that it requires is shown. It is
    unproven if `max_hold`, or a false alarm after the forty looks, comes first.
    """
    looks = healthy(rng, ladder(rng, requests, looks_at_last=MAX_HOLD_LOOKS))
    decided = list(itertools.islice(looks, LOOKS))
    calibration = calibrated(rng, requests, independent) if with_calibration else UNMEASURED
    gates = shipped.gates(calibration).follow(decided)
    within_forty = gates.regression
    needed = None if within_forty else _looks_to_promotion(gates, looks)
    return {
        "sluice": within_forty,
        "unproven": not within_forty and needed is None,
        "looks_to_promotion": np.nan if needed is None else needed,
        **_peers(rng, decided),
    }


def _looks_to_promotion(gates: Gates, more: Iterable[Look]) -> int | None:
    """Looks at the last step until it may end; None: `max_hold` comes first, or a regression."""
    looks = HOLD_LOOKS
    for look in more:
        if gates.may_be_promoted:
            return looks
        gates = gates.observe(look)
        looks += 1
    return looks if gates.may_be_promoted else None


def _peers(rng: np.random.Generator, looks: list[Look]) -> Outcome:
    metrics = kayenta_metrics(rng, looks)
    success = 1.0 - metrics[0].canary / 100.0
    errors_only = kayenta.judge(metrics[:1], {"errors": 100.0}, rng)
    return {
        "argo": argo.STRICT.aborted_at(success) is not None,
        "argo_95": argo.DOCUMENTED_CONDITION.aborted_at(success) is not None,
        "flagger": flagger.DOCUMENTED.rolled_back_at(success) is not None,
        "kayenta": kayenta.failed_at([kayenta.judge(metrics, KAYENTA_WEIGHTS, rng).score]) is not None,
        "kayenta_errors_only": kayenta.failed_at([errors_only.score]) is not None,
    }


def kayenta_metrics(rng: np.random.Generator, looks: list[Look]) -> list[kayenta.Metric]:
    """A point per look: errors and the slow share of each metric, in percent."""
    found = [kayenta_metric(rng, "errors", *_columns([look.window.attempts] for look in looks))]
    for metric in METRICS:
        by_look = (list(look.latency.metrics[metric].values()) for look in looks)
        found.append(kayenta_metric(rng, "latency", *_columns(by_look)))
    return found


def _columns(looks: Iterable[list[Arms]]) -> Iterator[Counts]:
    """Requests and bad ones of the canary, the same of stable, each an array over looks, summed over strata."""
    rows = []
    for strata in looks:
        canary, stable = [arms.canary for arms in strata], [arms.stable for arms in strata if arms.stable]
        rows.append([sum(getattr(arm, of) for arm in arms) for arms in (canary, stable) for of in ("requests", "bad")])
    return iter(np.array(rows).T)


def kayenta_metric(
    rng: np.random.Generator, group: str, requests: Counts, bad: Counts, stable_requests: Counts, stable_bad: Counts
) -> kayenta.Metric:
    """Its documentation asks for a baseline as large as the canary: as many of stable's requests, drawn at random."""
    size = np.minimum(requests, stable_requests)
    baseline = rng.hypergeometric(stable_bad, stable_requests - stable_bad, size)
    with np.errstate(invalid="ignore"):  # a baseline without requests is NaN, as in Kayenta
        return kayenta.Metric(group, 100.0 * bad / requests, 100.0 * baseline / size)

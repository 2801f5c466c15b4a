"""What the judge promises, and what the simulations came to."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.judge.exposure import HORIZON_REQUESTS, RATES, WINDOWS
from benchmarks.judge.latency import BURST_TRAFFIC
from benchmarks.judge.quality import SINGLE_ALPHA
from benchmarks.judge.releases import REQUESTS_PER_LOOK
from benchmarks.judge.runner import Columns
from benchmarks.judge.shipped import ALPHA

Cells = Mapping[str, Columns]
Column = NDArray[np.float64]
SMALLEST_WINDOW = WINDOWS[0]
PEERS = {
    "argo": "success rate ≥ 99 % at every look, failureLimit 0 (the default)",
    "argo_95": "success rate ≥ 95 % at every look (its documentation's example), failureLimit 0 (the default)",
    "flagger": "success rate ≥ 99 % at every check, rollback at 5 failed ones, as documented",
    "kayenta": "a point per look in percent, a baseline as large as the canary, allowedIncrease 1, marginal 75, "
    "pass 95; releases: one run over the 40 looks, errors and latency at 50 % each; exposure: errors only, runs after "
    "50, 100 and 150 windows",
}
"""The peers and what was asked of each."""

EXPOSURE_LIMITS = {"20pct": 30, "5pct": 130, "2pct": 650}
QUALITY_LIMITS = {"10pt": (260, 120), "38pt": (40, 25)}


@dataclass(frozen=True)
class Claim:
    """A figure, and what it has to be."""

    name: str
    value: float
    relation: Literal["<=", ">="]
    limit: float
    repetitions: int
    unit: str
    note: str

    @property
    def holds(self) -> bool:
        """A figure that is not a number holds nothing."""
        return self.value <= self.limit if self.relation == "<=" else self.value >= self.limit

    def to_record(self) -> dict[str, Any]:
        return {
            "value": round(self.value, 6) if math.isfinite(self.value) else None,
            "relation": self.relation,
            "limit": self.limit,
            "unit": self.unit,
            "holds": bool(self.holds),
            "repetitions": self.repetitions,
            "note": self.note,
        }


def claims_of(cells: Cells, tick_ms: float, minutes: float) -> list[Claim]:
    """Every claim, from the cells' columns and what was measured with a clock."""
    return [
        *_false_rollbacks(cells),
        *_exposures(cells),
        *_false_promotions(cells),
        *_latencies(cells),
        *_qualities(cells),
        *_equal_versions(cells),
        _median("soak_seconds", cells["soak"]["seconds"], 200, "s", "20 requests/s, holdback 10 %, 0.5 → 5 % errors"),
        Claim("tick_ms", tick_ms, "<=", 20, 1, "ms", "all gates and their verdicts, 10 000 requests in the window"),
        Claim("benchmark_minutes", minutes, "<=", 12, 1, "min", "the whole benchmark, two processes"),
    ]


def _false_rollbacks(cells: Cells) -> Iterator[Claim]:
    for requests in REQUESTS_PER_LOOK:
        cell, unmeasured = cells[f"release_{requests}"], cells[f"release_{requests}_unmeasured"]
        note = (
            f"errors, latency and behaviour, 40 looks, κ measured; unproven by max_hold {_unproven(cell)}; "
            f"κ not measured: {_percent(unmeasured['sluice'].mean())}, unproven {_unproven(unmeasured)}"
        )
        yield _rate(f"false_rollback_{requests}", cell["sluice"], 0.01, note)


def _unproven(cell: Columns) -> str:
    looks = cell["looks_to_promotion"][cell["sluice"] == 0.0]
    return (
        f"{_percent(cell['unproven'].mean())} (looks at the last step until promotion: "
        f"median {_quantile(looks, 0.5):g}, p99 {_quantile(looks, 0.99):g})"
    )


def _exposures(cells: Cells) -> Iterator[Claim]:
    for name, limit in EXPOSURE_LIMITS.items():
        found = cells[f"exposure_{name}_{SMALLEST_WINDOW}"]["sluice"]
        yield _median(f"exposure_{name}", found, limit, "requests", "weight 10 %, stable 0.5 %, windows of 3")
        note = f"within {HORIZON_REQUESTS} canary requests, the same releases"
        yield Claim(f"detection_{name}", _found_share(found), ">=", 0.99, len(found), "", note)
    late = cells["exposure_late"]
    note = (
        f"healthy for 10 000 canary requests, then 5 % errors at 50 %; too early: {_percent(late['too_early'].mean())}"
    )
    yield _median("exposure_late", late["requests"][late["too_early"] == 0.0], 450, "requests", note)


def _false_promotions(cells: Cells) -> Iterator[Claim]:
    bases = [cells[name]["promoted"] for name in ("boundary", "boundary_faultless")]
    note = "worse by the margin; the worse of stable at 0 and at 0.5 %; κ measured"
    yield _rate("false_promotion_boundary", max(bases, key=_mean), ALPHA.promote, note)
    ramp = cells["boundary_ramp"]["promoted"]
    yield _rate("false_promotion_ramp", ramp, ALPHA.promote, "share 5 → 50 % while the base rate halves, in one step")
    burst = cells["boundary_bursts"]
    note = (
        f"bursts of five at the measured κ (median {np.median(burst['kappa']):.2g}); "
        f"with κ 1: {_percent(burst['promoted_raw'].mean())}"
    )
    yield _rate("false_promotion_bursts", burst["promoted"], ALPHA.promote, note)


def _latencies(cells: Cells) -> Iterator[Claim]:
    shipped, single = cells["latency"]["requests"], cells["latency_single"]["requests"]
    unmeasured = _quantile(cells["latency_unmeasured"]["requests"], 0.5)
    note = (
        f"5 → 10 % slow in one metric of three, three strata, weight 10 %, windows of 6, "
        f"α {ALPHA.latency:g}, κ measured; κ not measured: {unmeasured:g}"
    )
    yield _median("latency_requests", shipped, 550, "requests", note)
    yield _median("latency_requests_single", single, 250, "requests", "the same as one process at α 0.05")
    mix = cells["length_mix"]
    note = (
        f"equal versions, the canary gets longer prompts; the same gate without strata "
        f"{_percent(mix['unstratified'].mean())}, p95 of the release {_percent(mix['p95'].mean())}"
    )
    yield _rate("length_mix_false_alarm", mix["sluice"], 0.01, note)


def _qualities(cells: Cells) -> Iterator[Claim]:
    equal, margin = cells["quality_equal"], cells["quality_at_margin"]["promoted"]
    alpha = ALPHA.quality + ALPHA.category
    rates = (equal["shipped"].mean() / alpha, equal["single"].mean() / SINGLE_ALPHA, margin.mean() / ALPHA.promote)
    note = (
        f"largest of measured/α, a look after every pair of 400: equal versions stopped "
        f"{_percent(equal['shipped'].mean())} (α {alpha:g}), by K⁻ alone {_percent(equal['single'].mean())} (α 0.05), "
        f"worse by the margin and passed {_percent(margin.mean())} (α 0.05)"
    )
    yield Claim("quality_type1", float(max(rates)), "<=", 1.0, len(margin), "× α", note)
    what = {"10pt": "−10 points at 18 % discordance", "38pt": "−38 points"}
    for name, (limit, single_limit) in QUALITY_LIMITS.items():
        found = cells[f"quality_{name}"]
        yield _median(f"quality_pairs_{name}", found["shipped"], limit, "pairs", f"{what[name]}, as shipped")
        note = f"{what[name]}, K⁻ alone at α 0.05"
        yield _median(f"quality_pairs_{name}_single", found["single"], single_limit, "pairs", note)


def _equal_versions(cells: Cells) -> Iterator[Claim]:
    halves, doubles = cells["ramp_halves"], cells["ramp_doubles"]
    note = (
        f"equal versions, share 5 → 50 % while the base rate halves, or doubles; "
        f"pooled z-test {_percent(halves['pooled_z'].mean())} and {_percent(doubles['pooled_z'].mean())}"
    )
    yield _rate("ramp_false_alarm", max(halves["sluice"], doubles["sluice"], key=_mean), 0.01, note)
    by_traffic = {requests: cells[f"bursts_{requests}"] for requests in BURST_TRAFFIC}
    worst = max(by_traffic, key=lambda requests: _mean(by_traffic[requests]["sluice"]))
    raw = [_mean(column) for requests in BURST_TRAFFIC for column in cells[f"bursts_raw_{requests}"].values()]
    each = ", ".join(f"{n}: {_percent(cell['sluice'].mean())}" for n, cell in by_traffic.items())
    gates = ", ".join(f"{g} {_percent(by_traffic[worst][g].mean())}" for g in ("errors", "latency", "behaviour"))
    note = (
        f"bursts of five in errors, latency and behaviour, all gates, 40 looks, canary requests per look {each} "
        f"(at {worst}: {gates}); "
        f"every event counted for itself: {_percent(min(raw))} to {_percent(max(raw))} by gate"
    )
    yield _rate("burst_false_alarm", by_traffic[worst]["sluice"], 0.01, note)


# --- figures ----------------------------------------------------------------------------------------------------------


def _rate(name: str, happened: Column, limit: float, note: str) -> Claim:
    count = int(happened.sum())
    return Claim(name, _mean(happened), "<=", limit, len(happened), "", f"{count} of {len(happened)}; {note}")


def _median(name: str, found: Column, limit: float, unit: str, note: str) -> Claim:
    note = f"median; p90 {_quantile(found, 0.9):g}; {note}"
    return Claim(name, _quantile(found, 0.5), "<=", limit, len(found), unit, note)


def _quantile(found: Column, share: float) -> float:
    """A quantile over all repetitions, where those that found nothing count as never (infinite)."""
    never = np.where(np.isnan(found), np.inf, found)
    return float(np.quantile(never, share, method="inverted_cdf"))


def _mean(happened: Column) -> float:
    return float(happened.mean())


def _percent(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def peers_of(cells: Cells) -> dict[str, Any]:
    """The peers' figures on the same streams, by peer."""
    found: dict[str, Any] = {}
    for peer in (*PEERS, "kayenta_errors_only"):
        releases = {requests: cells[f"release_{requests}"][peer] for requests in REQUESTS_PER_LOOK}
        found[peer] = {"rule": PEERS[peer]} if peer in PEERS else {}
        found[peer] |= {f"false_rollback_{requests}": _mean(column) for requests, column in releases.items()}
    for peer in ("sluice", *PEERS):
        found.setdefault(peer, {}).update(_peer_exposures(cells, peer))
    mix = cells["length_mix"]
    found["argo"]["length_mix_p95"] = _mean(mix["argo_p95"])
    found["pooled_z"] = {name: _mean(cells[name]["pooled_z"]) for name in ("ramp_halves", "ramp_doubles")}
    return found


def _peer_exposures(cells: Cells, peer: str) -> dict[str, Any]:
    """At each size of windows: requests until a bad canary is rolled back, and how often a healthy one is as well."""
    found: dict[str, Any] = {}
    for size in WINDOWS:
        healthy = cells[f"healthy_{size}"][peer]
        found[f"healthy_windows_of_{size}"] = {
            "rolled_back": _found_share(healthy),
            "within_requests": HORIZON_REQUESTS,
        }
        for name in RATES:
            column = cells[f"exposure_{name}_{size}"][peer]
            median = _quantile(column, 0.5)
            found[f"exposure_{name}_windows_of_{size}"] = {
                "median": median if math.isfinite(median) else None,
                "detected": _found_share(column),
            }
    return found


def _found_share(column: Column) -> float:
    return float(np.mean(~np.isnan(column)))

"""The result for machines, for the README, and on the screen."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.judge.claims import Claim
from benchmarks.judge.exposure import HORIZON_REQUESTS, RATES, WINDOWS
from benchmarks.judge.releases import REQUESTS_PER_LOOK

Peers = Mapping[str, Mapping[str, Any]]
NAMES = {
    "sluice": "Sluice",
    "argo": "Argo Rollouts, ≥ 99 %",
    "argo_95": "Argo Rollouts, ≥ 95 %",
    "flagger": "Flagger, ≥ 99 %, 5 checks",
    "kayenta": "Kayenta",
}


def write(path: Path, head: Mapping[str, Any], claims: Sequence[Claim], peers: Peers) -> None:
    """Write the result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {**head, "claims": {claim.name: claim.to_record() for claim in claims}, "peers": peers}
    path.write_text(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def markdown(claims: Sequence[Claim], peers: Peers) -> str:
    """The tables of the README."""
    return "\n\n".join((_claims(claims), _false_rollbacks(claims, peers), _exposures(peers))) + "\n"


def _claims(claims: Sequence[Claim]) -> str:
    rows = [
        (f"`{c.name}`", amount(c), f"{c.relation.replace('<=', '≤').replace('>=', '≥')} {_limit(c)}", _mark(c), c.note)
        for c in claims
    ]
    return _table(("claim", "measured", "limit", "", "what was simulated"), rows)


def amount(claim: Claim) -> str:
    """Write a claim's figure with its unit; without one it is a share, and written as percent."""
    if not claim.unit:
        return f"{100 * claim.value:.2f} %"
    return f"{claim.value:.3g} {claim.unit}" if claim.value < 1000 else f"{claim.value:.0f} {claim.unit}"


def _limit(claim: Claim) -> str:
    return f"{100 * claim.limit:g} %" if not claim.unit else f"{claim.limit:g}"


def _mark(claim: Claim) -> str:
    return "holds" if claim.holds else "**does not hold**"


def _false_rollbacks(claims: Sequence[Claim], peers: Peers) -> str:
    ours = {claim.name: claim.value for claim in claims}
    found = {name: ours if name == "sluice" else peers[name] for name in NAMES}
    rows = [
        (label, *(f"{100 * found[name][f'false_rollback_{n}']:.2f} %" for n in REQUESTS_PER_LOOK))
        for name, label in NAMES.items()
    ]
    head = ("healthy canary rolled back, requests per look", *(f"{n:,}".replace(",", " ") for n in REQUESTS_PER_LOOK))
    return _table(head, rows)


def _exposures(peers: Peers) -> str:
    bad = [f"{100 * share:g} % bad" for share in RATES.values()]
    head = (
        "median canary requests before rollback",
        "windows of",
        *bad,
        f"healthy rolled back within {HORIZON_REQUESTS}",
    )
    rows = [(label, *_exposure_row(peers[name], size)) for name, label in NAMES.items() for size in WINDOWS]
    return _table(head, rows)


def _exposure_row(found: Mapping[str, Any], size: int) -> Iterator[str]:
    yield str(size)
    for rate in RATES:
        yield _exposure(found[f"exposure_{rate}_windows_of_{size}"])
    yield f"{100 * found[f'healthy_windows_of_{size}']['rolled_back']:.1f} %"


def _exposure(found: Mapping[str, Any]) -> str:
    missed = 1.0 - found["detected"]
    shown = "not found" if found["median"] is None else f"{found['median']:.0f}"
    return shown if missed < 0.01 else f"{shown} ({100 * missed:.0f} % missed)"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def on_screen(claims: Sequence[Claim]) -> str:
    """One line per claim."""
    width = max(len(claim.name) for claim in claims)
    return "\n".join(
        f"{'holds ' if c.holds else 'FAILS '} {c.name:<{width}}  {amount(c):>14} {c.relation} {_limit(c):<6} {c.note}"
        for c in claims
    )

"""Two plots: how often a healthy canary is rolled back, and how many requests a bad one answers before it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.judge.claims import Claim
from benchmarks.judge.exposure import RATES, WINDOWS
from benchmarks.judge.releases import REQUESTS_PER_LOOK
from benchmarks.judge.report import NAMES, Peers

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {"sluice": "#0b6e4f", "argo": "#d1495b", "argo_95": "#edae49", "flagger": "#30638e", "kayenta": "#7d5ba6"}
MARKERS = {"sluice": "o", "argo": "s", "argo_95": "D", "flagger": "^", "kayenta": "v"}
REQUESTS_SHOWN = (3, 10, 30, 100, 300, 1000, 3000)
TOO_OFTEN = 0.10
FALSE_TOO_OFTEN = "hollow: rolls back more than\n10 % of healthy ones, too"
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "judge",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
}


def draw(folder: Path, claims: Sequence[Claim], peers: Peers) -> list[Path]:
    """Write both plots as SVG; return their paths."""
    with plt.rc_context(STYLE):
        return [
            _save(_false_rollbacks(claims, peers), folder / "judge-false-rollback.svg"),
            _save(_exposures(peers), folder / "judge-exposure.svg"),
        ]


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    plt.close(figure)
    return path


def _false_rollbacks(claims: Sequence[Claim], peers: Peers) -> Figure:
    figure, axes = plt.subplots(figsize=(7.2, 4.0))
    ours: Mapping[str, Any] = {claim.name: claim.value for claim in claims}
    for name, label in NAMES.items():
        found = ours if name == "sluice" else peers[name]
        rates = [100 * found[f"false_rollback_{requests}"] for requests in REQUESTS_PER_LOOK]
        _line(axes, name, REQUESTS_PER_LOOK, rates, label)
    axes.axhline(1.0, color="#888888", linewidth=1, linestyle="--")
    axes.annotate("promised: at most 1 %", (1.1 * REQUESTS_PER_LOOK[1], 1.15), color="#555555", fontsize=9)
    axes.set_xscale("log")
    axes.set_xticks(REQUESTS_PER_LOOK, [str(requests) for requests in REQUESTS_PER_LOOK])
    axes.minorticks_off()
    axes.set_yscale("symlog", linthresh=0.1)
    axes.set_yticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    axes.set_ylim(-0.02, 160)
    axes.set_xlabel("canary requests per look")
    axes.set_ylabel("healthy releases rolled back, %")
    axes.set_title("A healthy canary (99.5 % success), 40 looks", loc="left")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _line(axes: Axes, name: str, x: Sequence[float], y: Sequence[float], label: str) -> None:
    width = 2.4 if name == "sluice" else 1.4
    order = 4 if name == "sluice" else 2
    axes.plot(x, y, MARKERS[name] + "-", color=COLOURS[name], linewidth=width, label=label, zorder=order, clip_on=False)


def _exposures(peers: Peers) -> Figure:
    figure, panels = plt.subplots(1, len(RATES), figsize=(10.5, 4.0), sharey=True)
    for axes, (rate, share) in zip(panels, RATES.items(), strict=True):
        for name, label in NAMES.items():
            medians = [peers[name][f"exposure_{rate}_windows_of_{size}"]["median"] for size in WINDOWS]
            _line(axes, name, WINDOWS, [float("nan") if m is None else m for m in medians], label)
            _hollow(axes, name, medians, peers)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(WINDOWS, [str(size) for size in WINDOWS])
        axes.minorticks_off()
        axes.set_xlabel("canary requests per window")
        axes.set_title(f"canary fails {100 * share:g} %", loc="left")
    panels[0].set_yticks(REQUESTS_SHOWN, [str(requests) for requests in REQUESTS_SHOWN])
    panels[0].set_ylabel("canary requests before rollback (median)")
    panels[-1].plot([], [], "o", color="#555555", markerfacecolor="white", label=FALSE_TOO_OFTEN)
    panels[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def _hollow(axes: Axes, name: str, medians: Sequence[float | None], peers: Peers) -> None:
    """Being quick is nothing where healthy canaries are rolled back as well."""
    for size, median in zip(WINDOWS, medians, strict=True):
        if median is not None and peers[name][f"healthy_windows_of_{size}"]["rolled_back"] > TOO_OFTEN:
            colour, marker = COLOURS[name], MARKERS[name]
            axes.plot([size], [median], marker, color=colour, markerfacecolor="white", zorder=5, clip_on=False)

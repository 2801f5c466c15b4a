"""The page's figures. Each takes the story's part and gives an `svg` element."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from datetime import datetime

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, PercentFormatter

from sluice.ledger.report import svg
from sluice.ledger.report.evalues import Panel, Series
from sluice.ledger.report.ladder import Ladder
from sluice.ledger.report.latency import Curve, Curves, Metric
from sluice.ledger.report.palette import LIGHT
from sluice.ledger.report.quality import Category

WIDTH = 9.0
"""Inches, of all figures: so their texts are of one size on the page."""
LOWEST, HIGHEST = 1e-3, 1e6
"""E-values beyond are drawn at the edge: there they say nothing else."""
MARGIN = 1.02
"""How much longer than the release its time axis is, so that its end is seen."""
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (5, 1.5, 1.5, 1.5)))
FEW = 0.001
_FULL_NAMES = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "e2e": "whole request",
}


def ladder(told: Ladder, start: datetime, end: datetime) -> str:
    """Weight as written and share as measured, over time."""

    def draw() -> Figure:
        figure, axes = _figure(2.5)
        scale = _time_axis(axes, start, end)
        points = [(start, 0.0), *((point.at, point.percent) for point in told.desired)]
        times = [scale(at) for at, _ in points] + [MARGIN * scale(end)]
        weights = [percent for _, percent in points] + [points[-1][1]]
        axes.fill_between(times, weights, step="post", color=LIGHT["canary"], alpha=0.12, linewidth=0)
        axes.step(times, weights, where="post", color=LIGHT["canary"], label="desired weight")
        seen = [scale(point.at) for point in told.observed], [point.percent for point in told.observed]
        if told.observed:
            axes.plot(*seen, "o", markersize=3, color=LIGHT["ink"], label="observed share since the step began")
        axes.set_ylim(0, min(104.0, 1.3 * max([*weights, *(point.percent for point in told.observed)])))
        axes.yaxis.set_major_formatter(PercentFormatter())
        axes.set_ylabel("canary's share")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
        return figure

    return svg.drawn(draw, "ladder-", "The canary's desired weight and observed share over time")


def e_values(panels: Sequence[Panel], told: Ladder, start: datetime, end: datetime) -> str:
    """One strip for each gate, over the same time; thresholds are the thin lines."""

    def draw() -> Figure:
        figure = Figure(figsize=(WIDTH, 1.75 * len(panels) + 0.5), layout="constrained")
        rows = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for axes, panel in zip(rows[:, 0], panels, strict=True):
            scale = _time_axis(axes, start, end, label=panel is panels[-1])
            for point in told.desired:
                axes.axvline(scale(point.at), color=LIGHT["muted"], linewidth=0.7, linestyle=(0, (1, 2)))
            _panel(axes, panel, scale)
        return figure

    return svg.drawn(draw, "e-", "E-values of each gate over time, with their thresholds")


def latency(curves: Curves) -> str:
    """A distribution function for each metric, canary's and stable's, with bands and the policy's limit."""

    def draw() -> Figure:
        figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
        row = figure.subplots(1, len(curves.metrics), sharey=True, squeeze=False)[0]
        for axes, metric in zip(row, curves.metrics, strict=True):
            _distribution(axes, metric)
        row[0].set_ylabel("share of requests at most so long")
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        return figure

    return svg.drawn(draw, "latency-", f"Distributions of times of {curves.of}, with confidence bands")


def quality(categories: Sequence[Category]) -> str:
    """Mean scores by category, canary's and stable's."""

    def draw() -> Figure:
        figure, axes = _figure(0.75 + 0.34 * len(categories))
        rows = range(len(categories))
        height = 0.36
        for offset, role in ((-height / 2, "canary"), (height / 2, "stable")):
            means = [getattr(category, f"{role}_mean") for category in categories]
            if any(mean is not None for mean in means):
                places = [row + offset for row in rows]
                axes.barh(places, [100 * (mean or 0.0) for mean in means], height, color=LIGHT[role], label=role)
        axes.set_yticks(rows, [_short(category.name) for category in categories])
        axes.invert_yaxis()
        axes.set_xlim(0, 100)
        axes.xaxis.set_major_formatter(PercentFormatter())
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)
        return figure

    return svg.drawn(draw, "quality-", "Mean score by category, of canary and stable")


# --- parts of figures ------------------------------------------------------------------------------------------------


def _figure(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.subplots()


def _time_axis(axes: Axes, start: datetime, end: datetime, *, label: bool = True) -> Callable[[datetime], float]:
    """Lay out a time axis; returns what turns a moment into its place on it."""
    length = max(1.0, (end - start).total_seconds())
    unit, seconds = next(
        (unit for unit in (("hours", 3600.0), ("minutes", 60.0)) if length >= 4 * unit[1]), ("seconds", 1.0)
    )
    axes.set_xlim(0, MARGIN * length / seconds)
    if label:
        axes.set_xlabel(f"{unit} since the release was triggered")
    return lambda at: (at - start).total_seconds() / seconds


def _panel(axes: Axes, panel: Panel, scale: Callable[[datetime], float]) -> None:
    dashes = {True: itertools.cycle(_DASHES), False: itertools.cycle(_DASHES)}
    for series in panel.series:
        times, values = _readings(series, scale)
        colour = LIGHT["good" if series.promotes else "bad"]
        axes.plot(times, values, color=colour, linestyle=next(dashes[series.promotes]), label=series.name)
    for promotes, limit in {(series.promotes, series.limit) for series in panel.series}:
        axes.axhline(limit, color=LIGHT["good" if promotes else "bad"], linewidth=0.8, alpha=0.75)
        axes.annotate(
            f"{limit:.0f}",
            (1.0, limit),
            xycoords=("axes fraction", "data"),
            xytext=(3, 0),
            textcoords="offset points",
            va="center",
            color=LIGHT["good" if promotes else "bad"],
        )
    _e_axis(axes, panel)
    axes.set_title(panel.gate, fontweight="bold")
    axes.legend(loc="center left", bbox_to_anchor=(1.09, 0.5), borderaxespad=0, handlelength=2.4)


def _readings(series: Series, scale: Callable[[datetime], float]) -> tuple[list[float], list[float]]:
    """Places and values; a gap between steps, where tests on one step's evidence begin anew."""
    times: list[float] = []
    values: list[float] = []
    before = None
    for reading in series.readings:
        if series.promotes and before is not None and reading.step != before:
            times.append(math.nan)
            values.append(math.nan)
        times.append(scale(reading.at))
        values.append(min(max(reading.e, LOWEST), HIGHEST))
        before = reading.step
    return times, values


def _e_axis(axes: Axes, panel: Panel) -> None:
    seen = [reading.e for series in panel.series for reading in series.readings]
    limits = [series.limit for series in panel.series]
    axes.set_yscale("log")
    axes.set_ylim(max(LOWEST, min([0.5, *seen])) / 1.5, min(HIGHEST, max([*limits, *seen])) * 2.5)
    axes.yaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    return f"{value:g}" if value < 10_000 else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _distribution(axes: Axes, metric: Metric) -> None:
    left, right = _range(metric)
    for curve in metric.curves:
        _curve(axes, curve, right)
    if metric.limit_seconds is not None:
        axes.axvline(metric.limit_seconds, color=LIGHT["bad"], linewidth=1.1, linestyle=_DASHES[1], label="limit")
    axes.set_xscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _duration(value)))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(f"{metric.name} · {_FULL_NAMES[metric.name]}")


def _range(metric: Metric) -> tuple[float, float]:
    """From where hardly a request was so fast to where hardly one was slower, and to the limit."""
    points = [point for curve in metric.curves for point in curve.points if 0 < point.edge < math.inf]
    limit = [metric.limit_seconds] if metric.limit_seconds else []
    low = [point.edge for point in points if point.share > FEW] + limit
    high = [point.edge for point in points if FEW < point.share < 1 - FEW] + limit
    return 0.5 * min(low, default=0.001), 2.0 * max(high, default=1.0)


def _curve(axes: Axes, curve: Curve, right: float) -> None:
    points = [point for point in curve.points if point.edge < right]
    edges = [*(point.edge for point in points), right]
    last = points[-1] if points else curve.points[-1]
    share, low, high = (
        [*(getattr(point, name) for point in points), getattr(last, name)] for name in ("share", "low", "high")
    )
    colour = LIGHT[curve.role]
    axes.fill_between(edges, low, high, step="post", color=colour, alpha=0.15, linewidth=0)
    axes.step(edges, share, where="post", color=colour, label=curve.role)


def _duration(seconds: float) -> str:
    return f"{seconds:g} s" if seconds >= 1 else f"{1000 * seconds:g} ms"


def _short(name: str) -> str:
    plain = "".join(letter if letter.isprintable() else " " for letter in name)
    return plain if len(plain) <= 28 else plain[:27] + "…"

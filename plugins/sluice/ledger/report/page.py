"""A release's story → one HTML page that needs nothing else: no network, no script, any screen, paper."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sluice.ledger.report import plots
from sluice.ledger.report.palette import DARK, LIGHT
from sluice.ledger.report.story import Story

OUTCOMES = {
    "promoted": ("Promoted", "good"),
    "rolled_back": ("Rolled back", "bad"),
    "dry_run": ("Dry run passed", "good"),
    "nothing_to_do": ("Nothing to do", "plain"),
    "refused": ("Refused", "bad"),
    "unsettled": ("Unsettled", "bad"),
    "running": ("Under way", "plain"),
}
"""Outcome → its name on the page, and whether it is good."""
TONES = {"non_inferior": "good", "advance": "good", "regression": "bad", "roll_back": "bad", "no_data": "plain"}


def render(story: Story) -> bytes:
    """The page, UTF-8. Every text of the story is escaped: prompts and answers come from anywhere."""
    name, tone = OUTCOMES.get(story.outcome, (story.outcome, "plain"))
    text = _ENVIRONMENT.get_template("page.html").render(
        story=story, outcome=name, tone=tone, figures=_figures(story), light=LIGHT, dark=DARK
    )
    return text.encode("utf-8", "replace")


def _figures(story: Story) -> dict[str, Markup]:
    """The figures for which there is something to draw, by section."""
    figures = {}
    start, end = story.triggered_at, story.ended_at
    if story.ladder.exposed:
        figures["ladder"] = plots.ladder(story.ladder, start, end)
    if story.panels:
        figures["e_values"] = plots.e_values(story.panels, story.ladder, start, end)
    if story.latency.metrics:
        figures["latency"] = plots.latency(story.latency)
    if story.quality and story.quality.categories:
        figures["quality"] = plots.quality(story.quality.categories)
    return {name: Markup(figure) for name, figure in figures.items()}


# --- how things are written ------------------------------------------------------------------------------------------


def _duration(seconds: float) -> str:
    """`0.4 s`, `12.3 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _span(seconds: float) -> str:
    """A request's time: `35 ms`, `1.5 s`."""
    return f"{seconds:g} s" if seconds >= 1 else f"{1000 * seconds:g} ms"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _percent(share: float | None) -> str:
    return "—" if share is None else f"{100 * share:.1f} %"


def _e_value(value: float) -> str:
    if value >= 1e6:
        return "over a million"
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": _duration,
        "span": _span,
        "moment": _moment,
        "percent": _percent,
        "e_value": _e_value,
        "tone": lambda outcome: TONES.get(outcome, "plain"),
        "words": lambda name: str(name).replace("_", " "),
    }
    return environment


_ENVIRONMENT = _environment()

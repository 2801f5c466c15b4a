"""A release's page: whole HTML that loads nothing, whatever prompts and answers contain."""

from __future__ import annotations

import time
from html.parser import HTMLParser
from typing import Any

import pytest

from sluice.ledger.report import render, story_of
from sluice.ports import Entry
from tests.unit.ledger import releases
from tests.unit.ledger.releases import KINDS, edited, looks_of, many

EMPTY = frozenset({"meta", "br", "link", "img", "input", "hr"})
LOADING = frozenset({"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background", "formaction"})


class Page(HTMLParser):
    """Reads a page strictly: every tag is closed in order. Collects what a browser would run or load."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.open == []

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in EMPTY:
            self.open.append(tag)
        self._attributes(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._attributes(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def _attributes(self, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            assert not name.startswith("on")
            if name in LOADING and not (value or "").startswith("#"):
                self.loads.append(f"{name}={value}")
            if name == "id":
                self.ids.append(value or "")


def page_of(entries: list[Entry]) -> Page:
    return Page(render(story_of(entries, looks_of(entries))))


@pytest.mark.parametrize("kind", KINDS)
async def test_every_end_of_a_release_makes_a_whole_page_that_loads_nothing(kind: str) -> None:
    entries = await KINDS[kind]()
    page = page_of(entries)
    assert page.loads == []
    assert not {"script", "iframe", "object", "embed", "link", "img", "base", "form"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))
    assert entries[-1].hash in page.text


async def test_styles_load_nothing() -> None:
    entries = await releases.promoted()
    text = render(story_of(entries, looks_of(entries))).decode()
    assert "://" not in text
    assert "@import" not in text
    assert text.count("url(") == text.count("url(#")


@pytest.mark.parametrize(
    ("kind", "sentences"),
    [
        (
            "refused",
            ["No user saw the canary: the release was refused", "No prompt was asked: the release was refused"],
        ),
        ("first", ["First release: nothing to compare with", "there is no share to compare"]),
        ("dry_run", ["No request of a user was judged: it was a dry run"]),
        ("blocked", ["No user saw the canary: the release ended before any user saw"]),
        ("under_way", ["The release is under way"]),
    ],
)
async def test_an_empty_part_says_why_it_is_empty(kind: str, sentences: list[str]) -> None:
    text = page_of(await KINDS[kind]()).text
    for sentence in sentences:
        assert sentence in text


async def test_the_page_tells_who_asked_what_came_of_it_and_every_decision() -> None:
    text = page_of(await releases.rolled_back()).text
    for part in ("arithmetic r2", "Rolled back", "somebody: a test", "roll back : errors: canary", "share to agree:"):
        assert part in text


# --- texts that come from anywhere -----------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> $x^{ \x00\x1b 漢字 &amp; {{ 7*7 }} {% if %}"


def hostile(data: dict[str, Any]) -> dict[str, Any]:
    """Every text that a prompt, an answer or a server may put into an examination."""
    answer = {"text": HOSTILE, "error": HOSTILE, "finish_reason": HOSTILE}
    prompt = {"id": HOSTILE, "category": HOSTILE, "prompt": HOSTILE, "answer": HOSTILE, "scorer": HOSTILE}
    return data | {
        "pairs": [[HOSTILE, HOSTILE, 0.0, 1.0], ["p1", "add", 0.0, 1.0]],
        "changed_sides": [
            {"prompt": prompt, "answers": {"canary": answer, "stable": answer | {"error": ""}}, "scores": {}}
        ],
        "fidelity": [[HOSTILE, 0.1, 10]],
    }


async def test_what_prompts_and_answers_contain_is_text_and_nothing_else() -> None:
    entries = edited(await releases.dry_run(), "examined", hostile)
    entries = edited(entries, "contract", lambda data: {"infos": {"canary": {HOSTILE: HOSTILE}, "stable": {}}})
    page = Page(render(story_of(entries, [])))
    assert not {"script", "img"} & set(page.tags)
    assert page.text.count("<script>alert(1)</script>") >= 8
    assert "{{ 7*7 }}" in page.text


async def test_long_texts_are_cut_and_say_so() -> None:
    def long(data: dict[str, Any]) -> dict[str, Any]:
        changed = hostile(data)
        changed["changed_sides"][0]["prompt"]["prompt"] = "x" * 100_000
        return changed

    page = render(story_of(edited(await releases.dry_run(), "examined", long), []))
    assert b"94000 more characters stand in the ledger" in page
    assert len(page) < 300_000


# --- size ------------------------------------------------------------------------------------------------------------


def large(data: dict[str, Any]) -> dict[str, Any]:
    """2 500 prompts of 20 categories, a tenth of which changed sides, 50 with answers of a page each."""
    ids = [f"prompt-{number:04d}" for number in range(2500)]
    score = {one: float(number % 10 > 0) for number, one in enumerate(ids)}
    text = "A sentence of an answer that goes on for a while. " * 60
    answer = {"text": text, "error": "", "finish_reason": "stop"}
    request = {"ttft": 0.1, "tpot": 0.01, "e2e": 1.0, "events": [], "error": ""}
    return data | {
        "pairs": [[one, f"category {number % 20}", score[one], 1.0] for number, one in enumerate(ids)],
        "requests": [
            {"prompt": one, "category": "c", "canary": request | {"ttft": 0.1 + number / 9999}, "stable": request}
            for number, one in enumerate(ids)
        ],
        "changed_sides": [
            {
                "prompt": {"id": one, "category": "c", "prompt": text, "answer": text, "scorer": "exact"},
                "answers": {"canary": answer, "stable": answer},
                "scores": {"canary": 0.0, "stable": 1.0},
            }
            for one in ids[:500:10]
        ],
    }


@pytest.mark.slow
async def test_a_long_release_of_many_prompts_is_a_page_of_moderate_size_made_in_seconds() -> None:
    entries = [entry for entry in await releases.promoted(odd=0.002) if entry.kind != "distributions"]
    looks = many(looks_of(entries), 500)
    began = time.process_time()
    page = render(story_of(edited(entries, "examined", large), looks))
    assert time.process_time() - began < 5.0
    assert len(page) < 1_500_000
    assert Page(page).loads == []

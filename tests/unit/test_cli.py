"""The command line: what a person who writes a policy, or reads what was, gets to see."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sluice.engine.evidence import window_record
from sluice.ledger.store import FsspecLedger
from sluice.ports import Entry, Timing, Totals
from sluice.tables import differences
from tests.fakes import World
from tests.unit.engine.dag_run import DagRun

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = PROJECT / "releases" / "arithmetic.yaml"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def sluice(*arguments: str, ledger: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "SLUICE_LEDGER": str(ledger), **variables}
    command = [sys.executable, "-m", "sluice.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, env=environment)


def changed(folder: Path, old: str, new: str, name: str = "arithmetic") -> Path:
    """The shipped policy with another text in it."""
    path = folder / f"{name}.yaml"
    path.write_text(SHIPPED.read_text().replace("model: arithmetic", f"model: {name}").replace(old, new))
    return path


# --- lint ------------------------------------------------------------------------------------------------------------


def test_the_shipped_policy_is_good(tmp_path: Path) -> None:
    done = sluice("lint", "releases/arithmetic.yaml", "--rate", "30", ledger=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "arithmetic, ladder 5 → 25 → 50 %: good" in done.stdout
    assert "latency is compared under like load from 50 % on" in done.stdout
    assert "at 30 requests/s" in done.stdout
    assert "the whole ladder and its soak: 35 s" in done.stdout


def test_without_files_all_releases_are_checked(tmp_path: Path) -> None:
    releases = tmp_path / "releases"
    releases.mkdir()
    done = sluice("lint", ledger=tmp_path, SLUICE_RELEASES=str(releases))
    assert (done.returncode, "holds no policy" in done.stderr) == (2, True)
    for name in ("one", "two"):
        changed(releases, "prompts/", f"{PROJECT}/prompts/", name)
    done = sluice("lint", ledger=tmp_path, SLUICE_RELEASES=str(releases))
    assert done.returncode == 0
    assert [line.split(":")[1] for line in done.stdout.splitlines() if "good" in line] == [
        " one, ladder 5 → 25 → 50 %",
        " two, ladder 5 → 25 → 50 %",
    ]


def test_a_folder_stands_for_all_its_policies(tmp_path: Path) -> None:
    for name in ("one", "two"):
        changed(tmp_path, "prompts/", f"{PROJECT}/prompts/", name)
    done = sluice("lint", str(tmp_path), ledger=tmp_path / "ledger")
    assert done.returncode == 0
    assert [f"{tmp_path / name}.yaml: {name}, ladder" in done.stdout for name in ("one", "two")] == [True, True]


def test_an_unknown_rate_is_a_warning_that_says_what_to_set(tmp_path: Path) -> None:
    done = sluice("lint", str(SHIPPED), ledger=tmp_path)
    assert done.returncode == 0
    assert "warning: rate: the requests per second are not known" in done.stderr


def test_every_mistake_of_every_file_is_told(tmp_path: Path) -> None:
    ill_formed = changed(tmp_path, "weight: 25", "weight: 3", "first")
    ill_formed.write_text(ill_formed.read_text().replace("tick: 500ms", "tick: soon"))
    impossible = changed(tmp_path, "margin: 0.05", "margin: 0.001", "second")
    unread = changed(tmp_path, "prompts/arithmetic.jsonl", "prompts/none.jsonl", "third")
    unread.write_text(unread.read_text() + "alpha: {promote: 0.6}\n")
    done = sluice("lint", str(ill_formed), str(impossible), str(unread), ledger=tmp_path)
    told = [line for line in done.stderr.splitlines() if "warning" not in line]
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    for line, start, words in zip(
        told,
        (f"sluice: {ill_formed}:12: steps", f"sluice: {ill_formed}:20: tick: ", *["sluice: "] * 3),
        ("a ladder goes up", "30s, 10m", "raise the margin or add prompts", "cannot be read", "alpha.promote: 0.6"),
        strict=True,
    ):
        assert line.startswith(start)
        assert words in line


def test_traffic_too_small_for_the_margins_is_refused(tmp_path: Path) -> None:
    done = sluice("lint", str(SHIPPED), "--rate", "3", ledger=tmp_path)
    assert done.returncode == 1
    assert "max_hold: with 3 requests/s, step 3 (50 %) of a healthy release may take 3.6 min" in done.stderr
    assert "ladder 5 → 25 → 50 %: refused" in done.stdout


# --- what past releases recorded -------------------------------------------------------------------------------------


def a_window(seconds: float, step: int) -> tuple[str, dict[str, Any], datetime]:
    """40 requests/s, of which 5 % go to `new`; one of a hundred of stable's fails, two are slow."""
    counters = {}
    for version, rate in (("old", 38), ("new", 2)):
        count = round(rate * seconds)
        timings = {metric: {"short": Timing(count, count // 50)} for metric in ("ttft", "tpot", "e2e")}
        bad = count // 100
        counters[version] = Totals(count, count, bad, count, bad, 0, timings, count, {"empty": 0})
    return "window", window_record(step, counters), START + timedelta(seconds=seconds)


@pytest.fixture
async def recorded(tmp_path: Path) -> Path:
    """A ledger with one release of the shipped policy: a minute at 5 %."""
    ledger = FsspecLedger(str(tmp_path / "ledger"))
    shift = ("shifted", {"step": 0, "weights": {"old": 95, "new": 5}}, START)
    plan = ("plan", {"version": "new", "policy": {"steps": [{}, {}, {}]}}, START)
    for kind, data, at in (plan, a_window(0, -1), shift, *(a_window(tick / 2, 0) for tick in range(1, 130))):
        await ledger.append("arithmetic", "rel-1", kind, data, at)
    return tmp_path / "ledger"


def test_the_rate_is_measured_by_the_last_release(recorded: Path) -> None:
    done = sluice("lint", str(SHIPPED), "--base-rate", "0.01", "--slow-rate", "0.02", ledger=recorded)
    assert (done.returncode, done.stderr) == (0, "")
    assert "at 40 requests/s" in done.stdout


def test_times_reckoned_with_better_rates_than_measured_are_doubted(recorded: Path) -> None:
    done = sluice("lint", str(SHIPPED), "--slow-rate", "0.001", ledger=recorded)
    assert "warning: --slow-rate: 0.001 is less than the 0.0" in done.stderr


@pytest.mark.slow
def test_tune_tells_false_alarms_and_times_in_plain_words(recorded: Path) -> None:
    done = sluice("tune", str(SHIPPED), "--repetitions", "2", ledger=recorded)
    assert done.returncode == 0, done.stderr
    assert "- a healthy canary is rolled back by mistake in 0 of 2 releases (95 % limits: 0 to 84.2 %)" in done.stdout
    assert "- at your traffic (40 requests/s) a canary that fails 5 % more of its requests is" in done.stdout


@pytest.mark.slow
def test_tune_is_the_same_again_with_the_same_seed(recorded: Path) -> None:
    arguments = ("tune", str(SHIPPED), "--from", str(recorded), "--repetitions", "1", "--output", "json")
    one, same, other = (sluice(*arguments, "--seed", seed, ledger=recorded / "none") for seed in ("1", "1", "2"))
    assert one.stdout == same.stdout != other.stdout
    found = json.loads(one.stdout)
    assert (found["load"]["rate"], found["found"][0]["fault"]) == (pytest.approx(40), "as good as stable")
    assert found["sentences"]


def test_tune_needs_a_record(tmp_path: Path) -> None:
    done = sluice("tune", str(SHIPPED), ledger=tmp_path)
    assert done.returncode == 2
    assert "the record has 0 windows of a tick (0.5 s) with 0 requests" in done.stderr


# --- what was --------------------------------------------------------------------------------------------------------


async def kept(ledger: Path, entries: list[Entry]) -> Path:
    store = FsspecLedger(str(ledger))
    for entry in entries:
        await store.append("arithmetic", "rel-1", entry.kind, entry.data, entry.at)
    return ledger


async def test_a_release_is_replayed_to_identical_verdicts(tmp_path: Path) -> None:
    run = DagRun(World())
    await run.run()
    ledger = await kept(tmp_path / "ledger", run.world.ledger.by_release["arithmetic", "rel-1"])
    done = sluice("replay", "arithmetic", ledger=ledger)
    assert (done.returncode, done.stderr) == (0, "")
    *verdicts, last = done.stdout.splitlines()
    assert len(verdicts) > 5
    assert last == f"rel-1: {len(verdicts)} of {len(verdicts)} verdicts are identical"
    assert sluice("replay", "rel-1", ledger=ledger).stdout == done.stdout


async def test_a_verdict_that_was_changed_is_shown_with_its_numbers(tmp_path: Path) -> None:
    run = DagRun(World())
    await run.run()
    entries = list(run.world.ledger.by_release["arithmetic", "rel-1"])
    look = next(index for index, entry in enumerate(entries) if entry.kind == "look")
    first, *others = entries[look].data["verdicts"]
    kinder = first | {"numbers": first["numbers"] | {"e_regression": 0.5}}
    entries[look] = replace(entries[look], data=entries[look].data | {"verdicts": [kinder, *others]})
    done = sluice("replay", "arithmetic", "rel-1", ledger=await kept(tmp_path / "ledger", entries))
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "DIFFERS" in line]
    assert (
        f"entry {entries[look].number} errors: DIFFERS: numbers.e_regression is recorded as 0.5, recomputed as" in line
    )


def test_only_what_differs_is_named() -> None:
    one, other = {"a": 1, "numbers": {"x": 1.0, "y": 2.0}}, {"a": 1, "numbers": {"x": 1.5, "y": 2.0}}
    assert list(differences(one, other)) == ["numbers.x is recorded as 1.0, recomputed as 1.5"]
    assert list(differences({"a": 1}, {})) == ["a is recorded as 1, recomputed as None"]


def test_an_unknown_release_is_refused_in_one_sentence(tmp_path: Path) -> None:
    done = sluice("replay", "arithmetic", "rel-7", ledger=tmp_path)
    assert done.returncode == 2
    assert "does not know release rel-7" in done.stderr


def test_a_model_without_releases_has_an_empty_history(tmp_path: Path) -> None:
    done = sluice("history", "arithmetic", "--output", "json", ledger=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "[]")

"""The command line: what a person who checks a policy gets to read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def sluice(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", **variables}
    command = [sys.executable, "-m", "sluice.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT, env=environment)


def test_the_shipped_policy_is_good() -> None:
    done = sluice("lint", "releases/arithmetic.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert "arithmetic, ladder 5 → 25 → 50 %: good" in done.stdout


def test_a_mistake_is_one_sentence_with_file_line_and_remedy(tmp_path: Path) -> None:
    broken = tmp_path / "arithmetic.yaml"
    broken.write_text((PROJECT / "releases" / "arithmetic.yaml").read_text().replace("weight: 25", "weight: 3"))
    done = sluice("lint", str(broken))
    assert done.returncode == 2
    assert done.stderr.startswith(f"sluice: {broken}:")
    assert "a ladder goes up" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_margin_that_the_prompt_set_cannot_certify_is_refused(tmp_path: Path) -> None:
    narrow = tmp_path / "arithmetic.yaml"
    narrow.write_text((PROJECT / "releases" / "arithmetic.yaml").read_text().replace("margin: 0.05", "margin: 0.001"))
    done = sluice("lint", str(narrow))
    assert done.returncode == 2
    assert "raise the margin or add prompts" in done.stderr.replace("\n", " ")


def test_a_model_without_releases_has_an_empty_history(tmp_path: Path) -> None:
    done = sluice("history", "arithmetic", "--output", "json", SLUICE_LEDGER=str(tmp_path))
    assert (done.returncode, done.stdout.strip()) == (0, "[]")

"""What the documents show must be true."""

from __future__ import annotations

import re
from pathlib import Path

from sluice import policy
from sluice.settings import PREFIX, Settings

PROJECT = Path(__file__).resolve().parents[2]


def test_the_readmes_policy_is_a_policy() -> None:
    block = re.search(r"```yaml\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    assert block is not None
    assert policy.parse(block[1], "README.md").ladder == (5, 25, 50)


def test_operation_lists_every_setting() -> None:
    listed = set(re.findall(rf"^\| `({PREFIX}\w+)`", (PROJECT / "docs" / "operation.md").read_text(), re.MULTILINE))
    assert listed == {PREFIX + name.upper() for name in Settings.model_fields}


def test_every_file_that_the_readme_links_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (PROJECT / "README.md").read_text())
    assert links
    assert [link for link in links if not (PROJECT / link).exists()] == []

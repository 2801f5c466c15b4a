"""A release's page: `story_of` takes what the ledger tells, `render` writes it as one HTML file. Pure."""

from sluice.ledger.report.looks import LookAt
from sluice.ledger.report.page import render
from sluice.ledger.report.story import Story, story_of

__all__ = ["LookAt", "Story", "render", "story_of"]

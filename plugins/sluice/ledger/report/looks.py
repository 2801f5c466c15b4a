"""One look at the evidence, as folding a release's entries again gives it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class LookAt:
    """What was known at one moment of a step."""

    at: datetime
    step: int
    """Index in the ladder; its length means the soak."""
    weight: int
    """Percent of live requests, as written."""
    observed_percent: float | None
    """The canary's share of the requests that started; None where no share is to be shown."""
    verdicts: Sequence[Mapping[str, Any]]
    """Each gate's verdict as a record: gate, outcome, sentence, numbers."""

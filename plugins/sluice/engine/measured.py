"""What the last release measured of users' traffic: what lint and plan reckon with."""

from __future__ import annotations

from sluice.engine.gates import UNMEASURED, Calibration
from sluice.engine.recorded import Load, calibration_in, load, recorded
from sluice.ports import Ledger


async def last_measured(ledger: Ledger, model: str) -> tuple[Load | None, Calibration]:
    """Of the last release that had users' traffic; (None, unmeasured) if there is none."""
    for release in reversed(await ledger.releases(model)):
        entries = await ledger.entries(model, release)
        found = load(recorded(entries))
        if found is not None:
            return found, calibration_in(entries)
    return None, UNMEASURED

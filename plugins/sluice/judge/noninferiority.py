"""Non-inferiority by an absolute margin: e-values against "the canary is worse by the margin or more".

With θ fixed before the window, each request multiplies the wealth by a factor near 1, and because log(1+x) ≤ x the
window's expected log is at most −g·n_c(θ_c − θ_s − δ) ≤ 0 under the null hypothesis. So it stays valid while base
rate and share move; two confidence sequences over pooled counts do not (Simpson). The same g is used in all strata
and windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sluice.judge.logspace import log_mean
from sluice.judge.windows import Arm

STAKES = (0.08, 0.25, 0.6, 0.95)
START = (0.0,) * len(STAKES)


def centre(past: Arm, canary: Arm, stable: Arm, margin: float) -> float:
    """Return θ for a window: stable's rate before it, moved towards where both arms meet at the margin.

    It is cut at half of n_s/n_c so that no factor becomes negative where the canary has most of the traffic.
    """
    rate = past.bad / past.requests if past.requests else 0.0
    shifted = max(0.0, rate - margin * canary.requests / (canary.requests + stable.requests))
    return min(shifted, 1.0 - margin, 0.5 * stable.requests / canary.requests)


def within_margin(canary: Arm, stable: Arm, theta: float, margin: float) -> tuple[float, ...]:
    """Return log increments, one per stake, of one window and stratum in which both arms have requests; untempered."""
    odds = canary.requests / stable.requests
    bad, good = 1.0 - theta - margin, theta + margin
    ups = []
    for g in STAKES:
        up = (canary.requests - canary.bad) * math.log1p(g * good)
        if canary.bad:
            up = canary.bad * math.log1p(-g * bad) + up
        if stable.bad:
            up += stable.bad * math.log1p(g * odds * (1.0 - theta))
        ups.append(up + (stable.requests - stable.bad) * math.log1p(-g * odds * theta))
    return tuple(ups)


def below_ceiling(arm: Arm, ceiling: float) -> tuple[float, ...]:
    """Return log increments against H₀: the bad rate is at least `ceiling`; nothing to compare with, untempered."""
    return tuple(
        arm.bad * math.log1p(-g * (1.0 - ceiling)) + (arm.requests - arm.bad) * math.log1p(g * ceiling) for g in STAKES
    )


def add(wealth: Sequence[float], increments: Sequence[float], kappa: float) -> tuple[float, ...]:
    """Return the log wealth per stake after a window, tempered by κ (exact for bursts ≤ κ)."""
    return tuple([w + up / kappa for w, up in zip(wealth, increments, strict=True)])


def log_e(wealth: Sequence[float]) -> float:
    """Return log E, the mean over the stakes."""
    return log_mean(wealth)

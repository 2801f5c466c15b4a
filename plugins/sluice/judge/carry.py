"""Windows in which a version finished no request say nothing alone: they are carried into the next one of the step.

Whether a window is carried depends on counts of requests only, never on how they ended, so it cannot bias a test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sluice.judge.windows import Arms, InvalidEvidence


@dataclass(frozen=True)
class Carried:
    """Incomplete windows by stratum, all of one step; a new step starts with none."""

    step: int = -1
    pending: Mapping[str, Arms] = field(default_factory=dict)

    def take(self, step: int, strata: Sequence[str], window: Mapping[str, Arms]) -> tuple[Carried, dict[str, Arms]]:
        """Return what is carried on after a window, and the strata that are complete, in the order of `strata`.

        Raises:
            InvalidEvidence: the window has a stratum that was not announced (tests average over a fixed number of
            them).
        """
        if not window.keys() <= set(strata):
            unknown = sorted(window.keys() - set(strata))
            raise InvalidEvidence(f"stratum {unknown[0]!r} is none of {', '.join(strata)}; announce it in the gate")
        pending = self.pending if step == self.step else {}
        waiting: dict[str, Arms] = {}
        complete: dict[str, Arms] = {}
        for name in strata:
            arms, earlier = window.get(name), pending.get(name)
            joined = earlier if arms is None else arms.joined(earlier)
            if joined is not None:
                (complete if joined.complete else waiting)[name] = joined
        return Carried(step, waiting), complete

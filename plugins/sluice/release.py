"""The state machine of a release: phases, transitions, epochs, and what traffic each state means.

Pure: records in, records out. The record lives in annotations of the VirtualService, so that state and traffic change
in the same write, and the traffic is a function of the record (`weights`): nothing else decides who gets what. Writes
that raise the canary's share are fenced by (release id, epoch); going back to last good needs the release id only,
raises the epoch, and is possible from every open state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from sluice.errors import Ambiguous, Refused, Superseded

PREFIX = "sluice.dev/"
NO_VERSION = "none"
"""The version that stands for "nothing serves yet": last good of a model's first release."""
HOLDBACK = 10
"""Percent that the old version keeps after promotion, as a control for the soak."""


class Phase(StrEnum):
    BEGUN = "begun"
    EXAMINED = "examined"
    SHIFTED = "shifted"
    ADVANCED = "advanced"
    PROMOTED = "promoted"
    COMMITTED = "committed"
    ROLLED_BACK = "rolled_back"


UNDECIDED = frozenset({Phase.BEGUN, Phase.EXAMINED, Phase.SHIFTED, Phase.ADVANCED, Phase.PROMOTED})
"""Phases from which a release may still go back to last good."""
LADDER = frozenset({Phase.SHIFTED, Phase.ADVANCED})
"""Phases in which `Record.step` names the step of the ladder."""

_ORDER = [Phase.BEGUN, Phase.EXAMINED, Phase.SHIFTED, Phase.ADVANCED, Phase.PROMOTED, Phase.COMMITTED]


@dataclass(frozen=True)
class Record:
    """The release's state as the cluster knows it. Invariant: `step` is set exactly in the phases of LADDER."""

    release: str
    epoch: int
    phase: Phase
    canary: str
    last_good: str
    ladder: tuple[int, ...]
    """Canary's weight in percent at each step: ascending, 1 … 99."""
    token: str
    """Random; probes carry it in a header, so that nobody else reaches a version by name."""
    step: int | None = None
    reason: str = ""
    """Why the release was rolled back."""
    closed: bool = False
    """Settled: the cluster matches the outcome, and no write of this release is taken any more."""

    @property
    def first(self) -> bool:
        """A first release has nothing to compare with and nothing to go back to."""
        return self.last_good == NO_VERSION


def weights(record: Record) -> Mapping[str, int]:
    """Percent of live requests by version: one entry at rest, two during a release; sums to 100."""
    if record.phase is Phase.COMMITTED:
        return {record.canary: 100}
    if record.phase is Phase.PROMOTED:
        return {record.canary: 100} if record.first else {record.canary: 100 - HOLDBACK, record.last_good: HOLDBACK}
    if record.phase in LADDER and not record.first:
        assert record.step is not None
        share = record.ladder[record.step]
        return {record.last_good: 100 - share, record.canary: share}
    return {record.last_good: 100}


def probed(record: Record) -> Mapping[str, str]:
    """Versions that probes reach by header, by role; empty once the release is closed."""
    if record.closed:
        return {}
    roles = {"canary": record.canary}
    return roles if record.first else roles | {"stable": record.last_good}


def last_good(weights: Mapping[str, int], model: str) -> str:
    """The one version that has all traffic. Raises Ambiguous if that is not clear."""
    if len(weights) == 1:
        return next(iter(weights))
    shares = ", ".join(f"{version} {weight} %" for version, weight in weights.items())
    raise Ambiguous(
        f"{model}: the traffic is split ({shares}) although no release is open; "
        "give one version all of it in the VirtualService, then trigger the release again"
    )


Change = Callable[[Record], Record]
"""A transition with its arguments filled in."""


# --- transitions -----------------------------------------------------------------------------------------------------


def begin(
    current: Record | None, *, release: str, canary: str, last_good: str, ladder: tuple[int, ...], token: str
) -> Record:
    """Open a release, or adopt it where its own earlier attempt left it (last good is never overwritten)."""
    if current is None or (current.closed and current.release != release):
        return Record(release, 1, Phase.BEGUN, canary, last_good, ladder, token)
    if current.release != release:
        raise Refused(
            f"release {current.release} is open ({describe(current)}); wait until it is settled, or mark its run failed"
        )
    if current.closed or current.phase is Phase.ROLLED_BACK:
        raise Refused(over(current))
    return current


def over(record: Record) -> str:
    """The sentence for a task that comes after its release's end."""
    outcome = "promoted" if record.phase is Phase.COMMITTED else f"rolled back ({record.reason})"
    return f"release {record.release} was {outcome}; trigger a new release instead of clearing its tasks"


def fence(current: Record | None, release: str, epoch: int) -> Record:
    """The record, if a write of (release, epoch) may still raise it. Raises Superseded otherwise."""
    if current is None or current.release != release:
        holder = current.release if current else "nobody"
        raise Superseded(f"release {release} no longer owns the model's traffic, {holder} does; nothing was written")
    if current.closed or current.phase is Phase.ROLLED_BACK:
        raise Superseded(over(current))
    if current.epoch != epoch:
        raise Superseded(f"release {release} is at epoch {current.epoch}, this task at {epoch}; nothing was written")
    return current


def examined(current: Record) -> Record:
    """The examination found nothing against the canary."""
    return current if _reached(current, Phase.EXAMINED) else replace(current, phase=Phase.EXAMINED)


def shifted(current: Record, step: int) -> Record:
    """The canary gets the step's weight. Needs the recorded advance of the step before; never goes down."""
    if _reached(current, Phase.PROMOTED) or (current.step is not None and current.step >= step):
        return current
    allowed = (
        current.phase is Phase.EXAMINED if step == 0 else current.phase is Phase.ADVANCED and current.step == step - 1
    )
    if not allowed:
        raise Refused(
            f"step {step + 1} needs {'the examination' if step == 0 else f'the advance of step {step}'}, "
            f"but the release is at {describe(current)}; only evidence opens a step: clear the task that gathers it"
        )
    return replace(current, phase=Phase.SHIFTED, step=step)


def advanced(current: Record, step: int) -> Record:
    """The step's evidence allows the next one."""
    if _reached(current, Phase.PROMOTED) or (current.step is not None and current.step > step):
        return current
    if current.step != step:
        raise Refused(f"step {step + 1} cannot be judged: the release is at {describe(current)}")
    return replace(current, phase=Phase.ADVANCED)


def promoted(current: Record) -> Record:
    """The canary becomes stable; the old version keeps the holdback for the soak."""
    if _reached(current, Phase.PROMOTED):
        return current
    if current.phase is not Phase.ADVANCED or current.step != len(current.ladder) - 1:
        raise Refused(f"promotion needs the advance of the last step, but the release is at {describe(current)}")
    return replace(current, phase=Phase.PROMOTED, step=None)


def committed(current: Record) -> Record:
    """The soak is over: there is no way back by this release."""
    if _reached(current, Phase.COMMITTED):
        return current
    if current.phase is not Phase.PROMOTED:
        raise Refused(f"a release commits at the end of its soak, but this one is at {describe(current)}")
    return replace(current, phase=Phase.COMMITTED)


def rolled_back(current: Record, reason: str) -> Record:
    """All traffic to last good, whatever the epoch. The first reason stays; what was committed stays committed."""
    if current.phase not in UNDECIDED or current.closed:
        return current
    return replace(current, phase=Phase.ROLLED_BACK, epoch=current.epoch + 1, step=None, reason=reason)


def closed(current: Record) -> Record:
    """The cluster matches the outcome. Only a decided release closes."""
    if current.phase in UNDECIDED:
        raise Refused(f"a release closes when it is committed or rolled back, but this one is at {describe(current)}")
    return replace(current, closed=True)


def describe(record: Record) -> str:
    """Where a release is, in words."""
    where = f"{record.phase.replace('_', ' ')}"
    return where if record.step is None else f"{where}, step {record.step + 1} ({record.ladder[record.step]} %)"


def _reached(current: Record, phase: Phase) -> bool:
    return _ORDER.index(current.phase) >= _ORDER.index(phase) if current.phase in _ORDER else False


# --- annotations -----------------------------------------------------------------------------------------------------


def to_annotations(record: Record) -> dict[str, str]:
    """The record as annotations; `from_annotations` reads them back."""
    fields = {
        "release": record.release,
        "epoch": str(record.epoch),
        "phase": record.phase.value,
        "canary": record.canary,
        "last-good": record.last_good,
        "ladder": ",".join(map(str, record.ladder)),
        "token": record.token,
        "step": "" if record.step is None else str(record.step),
        "reason": record.reason,
        "closed": str(record.closed).lower(),
    }
    return {PREFIX + name: value for name, value in fields.items()}


def from_annotations(annotations: Mapping[str, str], where: str) -> Record | None:
    """The record, or None if there never was a release. Raises Ambiguous if a person has damaged it."""
    if PREFIX + "release" not in annotations:
        return None
    try:
        field = {name: annotations[PREFIX + name] for name in ("release", "canary", "last-good", "token", "reason")}
        step = annotations[PREFIX + "step"]
        record = Record(
            release=field["release"],
            epoch=int(annotations[PREFIX + "epoch"]),
            phase=Phase(annotations[PREFIX + "phase"]),
            canary=field["canary"],
            last_good=field["last-good"],
            ladder=tuple(int(weight) for weight in annotations[PREFIX + "ladder"].split(",")),
            token=field["token"],
            step=int(step) if step else None,
            reason=field["reason"],
            closed={"true": True, "false": False}[annotations[PREFIX + "closed"]],
        )
    except (KeyError, ValueError) as error:
        raise Ambiguous(
            f"{where}: the annotations {PREFIX}* do not make a release record ({error}); "
            "restore them, or remove all of them while one version has all traffic"
        ) from error
    if (record.phase in LADDER) != (record.step is not None) or not all(
        step in range(len(record.ladder)) for step in [record.step] if step is not None
    ):
        raise Ambiguous(f"{where}: the annotation {PREFIX}step does not fit phase {record.phase}; restore it")
    return record

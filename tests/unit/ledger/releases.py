"""Releases to tell of: the engine's entries, from worlds in memory, and what folding them again shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sluice.engine.replay import replay
from sluice.ledger.chain import GENESIS, seal
from sluice.ledger.report import LookAt
from sluice.ports import Entry
from tests.fakes import Behaviour, World
from tests.unit.engine.dag_run import DagRun, a_request

MODEL, RELEASE = "arithmetic", "rel-1"


async def entries_of(run: DagRun, **behaviour: Any) -> list[Entry]:
    """The entries that a run leaves, whose canary behaves as told."""
    await run.up_to("plan")
    assert run.plan is not None
    run.world.versions[run.plan.version] = Behaviour(**behaviour)
    await run.run()
    return list(run.world.ledger.by_release[MODEL, RELEASE])


async def promoted(**behaviour: Any) -> list[Entry]:
    return await entries_of(DagRun(World()), **behaviour)


async def rolled_back() -> list[Entry]:
    return await entries_of(DagRun(World()), failing=0.3)


async def blocked() -> list[Entry]:
    return await entries_of(DagRun(World()), correct=0.4)


async def first() -> list[Entry]:
    return await entries_of(DagRun(World(stable=None)))


async def dry_run() -> list[Entry]:
    return await entries_of(DagRun(World(), a_request(dry_run=True)))


async def refused() -> list[Entry]:
    run = DagRun(World(), a_request(revision="r9"))
    await run.run()
    return list(run.world.ledger.by_release[MODEL, RELEASE])


async def under_way() -> list[Entry]:
    run = DagRun(World())
    await run.up_to("shift 1")
    return list(run.world.ledger.by_release[MODEL, RELEASE])


KINDS = {
    "promoted": promoted,
    "rolled_back": rolled_back,
    "blocked": blocked,
    "first": first,
    "dry_run": dry_run,
    "refused": refused,
    "under_way": under_way,
}


def looks_of(entries: Sequence[Entry]) -> list[LookAt]:
    """What each look saw, folded again."""
    return [
        LookAt(
            look.at, look.step, look.weight, look.observed_percent, [verdict.to_record() for verdict in look.verdicts]
        )
        for look in replay(entries).looks
    ]


def edited(entries: Sequence[Entry], kind: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> list[Entry]:
    """The entries as if those of a kind had other data; sealed anew."""
    sealed: list[Entry] = []
    for entry in entries:
        data = change(dict(entry.data)) if entry.kind == kind else entry.data
        sealed.append(seal(entry.number, entry.kind, entry.at, data, sealed[-1].hash if sealed else GENESIS))
    return sealed


def without(entries: Sequence[Entry], kind: str, *names: str) -> list[Entry]:
    """The entries as an earlier version of the library wrote them: some fields of a kind are not there."""
    return edited(entries, kind, lambda data: {name: value for name, value in data.items() if name not in names})


def many(looks: Sequence[LookAt], count: int) -> list[LookAt]:
    """So many looks over the same time, each with sentences of its own."""
    start, end = looks[0].at, looks[-1].at
    return [
        replace(
            looks[index * len(looks) // count],
            at=start + (end - start) * index / count + timedelta(microseconds=index),
            verdicts=[
                {**verdict, "sentence": f"{verdict['sentence']} at look {index}"}
                for verdict in looks[index * len(looks) // count].verdicts
            ],
        )
        for index in range(count)
    ]

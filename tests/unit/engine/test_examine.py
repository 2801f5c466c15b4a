"""examine: the same prompts to both versions, before any user sees the canary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice.engine.deploy import begin
from sluice.engine.evidence import quality_gate
from sluice.engine.examine import examine, replay
from sluice.errors import Refused, RolledBack, Superseded, Unreachable
from sluice.judge import Verdict
from sluice.ports import Role
from sluice.release import Phase
from tests.fakes import World
from tests.unit.engine.dag_run import ROOT, DagRun, a_policy, a_request


async def deployed(stable: str | None = "old") -> DagRun:
    run = DagRun(World(stable))
    await run.up_to("deploy")
    return run


async def examination(run: DagRun) -> Verdict:
    assert run.plan is not None
    assert run.begun is not None
    return await examine(run.world.ports, run.plan, run.begun.epoch, ROOT)


def noted(run: DagRun, kind: str) -> dict[str, Any]:
    entries = run.world.ledger.by_release[("arithmetic", "rel-1")]
    return next(dict(entry.data) for entry in reversed(entries) if entry.kind == kind)


def asked_of(run: DagRun, version: Role) -> list[str]:
    return [prompt for prompt, role in run.world.endpoint.asked if role == version]


async def test_every_prompt_is_asked_of_both_versions_once() -> None:
    run = await deployed()
    await examination(run)
    canary, stable = asked_of(run, "canary"), asked_of(run, "stable")
    assert sorted(canary) == sorted(stable) == sorted(set(canary))


async def test_prompts_are_asked_in_an_order_that_the_release_fixes() -> None:
    quality = a_policy().gates.quality.model_dump(mode="json") | {"concurrency": 1}
    orders = []
    for release in ("rel-1", "rel-1", "rel-2"):
        run = DagRun(World(), a_request(release), a_policy(gates={"quality": quality}))
        await run.up_to("examine")
        orders.append(asked_of(run, "canary"))
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != [prompt.id for prompt in run.world.prompts[: len(orders[0])]]


async def test_neither_version_is_always_asked_first() -> None:
    run = await deployed()
    await examination(run)
    first: dict[str, str] = {}
    for prompt, role in run.world.endpoint.asked:
        first.setdefault(prompt, role)
    assert set(first.values()) == {"canary", "stable"}


async def test_asking_stops_once_the_gate_knows() -> None:
    run = await deployed()
    await examination(run)
    assert len(run.world.endpoint.asked) < len(run.world.prompts)


async def test_the_recorded_pairs_give_the_recorded_verdict() -> None:
    run = await deployed()
    run.world.versions[run.world.record.canary].correct = 0.5
    with pytest.raises(RolledBack):
        await examination(run)
    gate = quality_gate(run.policy, (prompt.category for prompt in run.world.prompts))
    examined = noted(run, "examined")
    assert replay(gate, examined["pairs"]).to_record() == examined["verdict"]


async def test_answers_that_changed_sides_are_kept_for_the_reader() -> None:
    run = await deployed()
    run.world.versions[run.world.record.canary].correct = 0.5
    with pytest.raises(RolledBack):
        await examination(run)
    kept = noted(run, "examined")["changed_sides"][0]
    assert {answer["text"] for answer in kept["answers"].values()} == {kept["prompt"]["answer"], "wrong"}


async def test_a_canary_that_does_not_answer_probes_is_no_better_than_one_that_is_wrong() -> None:
    run = await deployed()
    ask = run.world.endpoint.ask

    async def broken(prompt: Any, role: Any, token: str) -> Any:
        answer = await ask(prompt, role, token)
        return replace(answer, text="", error="HTTP 500") if role == "canary" else answer

    run.world.endpoint.ask = broken  # type: ignore[method-assign]
    with pytest.raises(RolledBack, match="worse on"):
        await examination(run)
    assert run.world.record.phase is Phase.ROLLED_BACK
    assert noted(run, "examined")["probes"]["canary"]["errors"].keys() == {"HTTP 500"}


async def test_a_stable_version_that_does_not_answer_certifies_nobody() -> None:
    run = await deployed()
    ask = run.world.endpoint.ask

    async def broken(prompt: Any, role: Any, token: str) -> Any:
        answer = await ask(prompt, role, token)
        return replace(answer, text="", error="HTTP 500") if role == "stable" else answer

    run.world.endpoint.ask = broken  # type: ignore[method-assign]
    with pytest.raises(RolledBack, match="no prompt has been scored"):
        await examination(run)


async def test_a_prompt_set_that_changed_since_the_plan_is_refused() -> None:
    run = await deployed()
    run.world.prompts[7] = replace(run.world.prompts[7], answer="another")
    with pytest.raises(Refused, match=r"arithmetic.jsonl changed after the release was planned; trigger a new release"):
        await examination(run)
    assert run.world.endpoint.asked == []


async def test_a_gateway_that_goes_away_amid_the_probes_is_an_error_to_try_again() -> None:
    run = await deployed()
    ask = run.world.endpoint.ask

    async def fading(prompt: Any, role: Any, token: str) -> Any:
        if len(run.world.endpoint.asked) == 5:
            run.world.wire.down.add("endpoint")
        return await ask(prompt, role, token)

    run.world.endpoint.ask = fading  # type: ignore[method-assign]
    with pytest.raises(Unreachable):
        await examination(run)
    assert run.world.record.phase is Phase.BEGUN


async def test_an_examination_without_its_lease_stops() -> None:
    run = await deployed()
    run.world.lease.state = None
    with pytest.raises(Superseded, match="the lease is not release rel-1's"):
        await examination(run)
    assert run.world.record.phase is Phase.BEGUN


async def test_the_guard_acting_during_the_examination_stops_it() -> None:
    run = await deployed()
    run.world.guard_restores()
    with pytest.raises(Superseded):
        await examination(run)
    assert run.plan is not None
    with pytest.raises(Refused, match="was rolled back"):
        await begin(run.world.ports, run.plan)

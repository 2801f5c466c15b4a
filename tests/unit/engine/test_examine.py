"""examine: the same prompts to both versions, before any user sees the canary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sluice.engine.deploy import begin
from sluice.engine.examination import refold
from sluice.engine.examine import examine
from sluice.engine.gates import Calibration
from sluice.errors import Refused, RolledBack, Superseded, Unreachable
from sluice.judge import Verdict
from sluice.ports import Role, Totals
from sluice.release import Phase
from tests.fakes import World
from tests.unit.engine.dag_run import ROOT, DagRun, a_policy, a_request


def gates(**changes: Any) -> dict[str, Any]:
    """The policy's gates, some of them changed."""
    return a_policy().gates.model_dump(mode="json") | changes


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
    examined = noted(run, "examined")
    again = refold(run.policy, Calibration.from_record(noted(run, "calibrated")), examined)
    assert again.verdict.to_record() == examined["verdict"]
    assert [verdict.to_record() for verdict in again.verdicts] == examined["verdicts"]
    assert examined["requests"]


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


# --- gates beside quality --------------------------------------------------------------------------------------------


def verdicts(run: DagRun) -> dict[str, dict[str, Any]]:
    return {verdict["gate"]: verdict for verdict in noted(run, "examined")["verdicts"]}


async def test_a_good_canary_gets_a_verdict_from_every_gate() -> None:
    run = await deployed()
    await examination(run)
    outcomes = {gate: verdict["outcome"] for gate, verdict in verdicts(run).items()}
    assert outcomes == {
        "contract": "non_inferior",
        "quality": "non_inferior",
        "latency": outcomes["latency"],
        "behaviour": "inconclusive",
        "fidelity": "inconclusive",
    }
    assert outcomes["latency"] != "regression"


async def test_a_slow_canary_is_stopped_though_its_answers_are_right() -> None:
    run = await deployed()
    run.world.versions[run.world.record.canary].probe_seconds = 30.0
    with pytest.raises(RolledBack, match="before any user saw it: latency: "):
        await examination(run)
    assert run.world.record.phase is Phase.ROLLED_BACK


async def test_a_canary_whose_answers_are_cut_off_is_stopped() -> None:
    run = await deployed()
    run.world.versions[run.world.record.canary].odd = 0.9
    with pytest.raises(RolledBack, match="behaviour: truncated"):
        await examination(run)


async def test_a_forbidden_difference_of_the_contract_is_stopped_before_any_prompt() -> None:
    run = await deployed()
    run.world.endpoint.contracts[run.world.record.canary] = {"context_tokens": 128}
    with pytest.raises(RolledBack, match=r"contract: .*context_tokens"):
        await examination(run)
    assert run.world.endpoint.asked == []


async def test_a_difference_that_the_policy_allows_is_listed_and_no_more() -> None:
    run = DagRun(World(), policy=a_policy(gates=gates(contract={"forbid": ["api_schema"]})))
    await run.up_to("deploy")
    run.world.endpoint.contracts[run.world.record.canary] = {"context_tokens": 128}
    await examination(run)
    assert "context_tokens" in verdicts(run)["contract"]["sentence"]


async def test_other_weights_show_in_the_log_probabilities_and_block_only_if_the_policy_says_so() -> None:
    for limit, blocked in ((None, False), (0.1, True)):
        run = DagRun(World(), policy=a_policy(gates=gates(fidelity={"limit": limit})))
        await run.up_to("deploy")
        run.world.versions[run.world.record.canary].divergence = 1.5
        if blocked:
            with pytest.raises(RolledBack, match="fidelity: "):
                await examination(run)
        else:
            await examination(run)
        prompt_id, divergence, tokens = noted(run, "examined")["fidelity"][0]
        answer = {prompt.id: prompt.answer for prompt in run.world.prompts}[prompt_id]
        assert (divergence, tokens) == (1.5, len(answer))


async def test_a_version_that_is_stopped_is_kept_no_longer_for_its_log_probabilities() -> None:
    run = await deployed()
    run.world.versions[run.world.record.canary].correct = 0.2
    run.world.wire.new_process()
    with pytest.raises(RolledBack):
        await examination(run)
    assert "endpoint.logprobs" not in run.world.wire.calls


async def test_versions_with_different_tokenizers_are_not_compared_token_by_token() -> None:
    run = DagRun(World(), policy=a_policy(gates=gates(contract={"forbid": []})))
    await run.up_to("deploy")
    run.world.endpoint.contracts[run.world.record.canary] = {"tokenizer": "sha256:other"}
    await examination(run)
    assert noted(run, "examined")["fidelity"] == []


# --- a judge model ---------------------------------------------------------------------------------------------------

RUBRIC = {"url": "https://judge.example.com/v1", "model": "judge-1"}


async def with_rubric(stable: str | None = "old") -> DagRun:
    world = World(stable)
    world.prompts = [replace(prompt, scorer="rubric") for prompt in world.prompts]
    quality = a_policy().gates.quality.model_dump(mode="json") | {"rubric": RUBRIC}
    run = DagRun(world, policy=a_policy(gates={"quality": quality}))
    await run.up_to("deploy")
    return run


async def test_a_judge_model_scores_both_answers_at_once() -> None:
    run = await with_rubric()
    run.world.versions[run.world.record.canary].correct = 0.3
    with pytest.raises(RolledBack, match="quality: canary better on 0 and worse on"):
        await examination(run)
    assert {tuple(pair[2:]) for pair in noted(run, "examined")["pairs"]} == {(0.0, 1.0), (0.5, 0.5)}


async def test_a_judge_model_is_not_asked_about_an_answer_that_never_came() -> None:
    run = await with_rubric()
    ask = run.world.endpoint.ask

    async def broken(prompt: Any, role: Any, token: str) -> Any:
        answer = await ask(prompt, role, token)
        return replace(answer, text="", error="HTTP 500") if role == "canary" else answer

    run.world.endpoint.ask = broken  # type: ignore[method-assign]
    with pytest.raises(RolledBack, match="quality"):
        await examination(run)
    assert {tuple(pair[2:]) for pair in noted(run, "examined")["pairs"]} == {(0.0, 1.0)}


async def test_a_judge_model_that_cannot_be_understood_passes_nobody() -> None:
    run = await with_rubric()

    async def rambling(*question: Any) -> None:
        return None

    run.world.judge = rambling
    run.world.versions[run.world.record.canary].correct = 0.3
    with pytest.raises(RolledBack, match="no prompt has been scored"):
        await examination(run)
    assert len(noted(run, "examined")["unscored"]) == len(run.world.prompts)


# --- burst factors ---------------------------------------------------------------------------------------------------


async def test_burst_factors_are_measured_between_stables_pods_before_the_first_probe() -> None:
    run = await deployed()
    burst = [{"a": Totals(attempts=500, attempts_failed=9), "b": Totals(attempts=500)} for _ in range(30)]
    calm = [{"a": Totals(attempts=500), "b": Totals(attempts=500, attempts_failed=9)} for _ in range(30)]
    run.world.telemetry.pods_past = [*burst, *calm]
    await examination(run)
    assert noted(run, "calibrated")["errors"] == {"factor": pytest.approx(9.0), "events": 540}
    kinds = [entry.kind for entry in run.world.ledger.by_release[("arithmetic", "rel-1")]]
    assert kinds.index("contract") < kinds.index("calibrated") < kinds.index("examined")


async def test_bursts_of_odd_answers_are_measured_by_themselves() -> None:
    run = await deployed()
    odd = Totals(completed=500, behaviour={"truncated": 9, "empty": 0})
    calm = Totals(completed=500, behaviour={"truncated": 0, "empty": 0})
    run.world.telemetry.pods_past = [{"a": odd, "b": calm}, {"a": calm, "b": odd}] * 30
    await examination(run)
    assert noted(run, "calibrated")["behaviour"] == {"factor": pytest.approx(9.0), "events": 540}
    assert noted(run, "calibrated")["errors"]["events"] == 0


async def test_metrics_without_a_past_leave_the_careful_factors() -> None:
    run = await deployed()
    run.world.wire.down.add("telemetry")
    await examination(run)
    assert noted(run, "calibrated")["errors"]["events"] == 0

"""One DAG per policy file: the graph view reads like the policy.

plan → build → begin [setup] → deploy → examine → a group per step {shift, watch} → promote → soak → settle [teardown]
→ conclude [teardown, decides the run's state]. Two teardowns in a row are the one shape whose run is right when a gate
fails *and* when a person marks it failed: an ordinary clean-up task would be skipped then. Never a `dagrun_timeout`: it
skips teardowns too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, TaskGroup, chain

from sluice import policy
from sluice.errors import BadInput
from sluice.orchestration.operators import ConcludeOperator, PlanOperator, UseCaseOperator, WatchOperator
from sluice.orchestration.retries import POLICY, RETRY_DELAY
from sluice.policy import ReleasePolicy

RETRIES = 5
"""Attempts after a failure that may pass, or after a killed process."""


def release_dags(releases: Path, only: str | None = None) -> dict[str, DAG]:
    """DAGs by id, for every policy in the folder; a broken policy becomes a DAG whose plan fails with the error.

    `only`: the one DAG that a task needs; each task reads the DAG file anew, and must not pay for the other models.
    """
    dags = {}
    for path in sorted(releases.glob("*.yaml")):
        if only not in (None, dag_id_of(path.stem)):
            continue
        try:
            chosen: ReleasePolicy | None = policy.read(path)
            mistake = ""
        except BadInput as error:
            chosen, mistake = None, str(error)
        dag = _dag(path, chosen, mistake)
        dags[dag.dag_id] = dag
    return dags


def dag_id_of(model: str) -> str:
    return f"release_{model}"


def _dag(path: Path, chosen: ReleasePolicy | None, mistake: str) -> DAG:
    model = chosen.model if chosen else path.stem
    dag = DAG(
        dag_id=dag_id_of(model),
        description=f"Release a revision of {model}, step by step, by evidence",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        default_args={"retries": RETRIES, "retry_delay": RETRY_DELAY, "retry_policy": POLICY},
        tags=["sluice", model],
        doc_md=_doc(path, chosen, mistake),
    )
    with dag:
        plan = PlanOperator(task_id="plan", model=model, policy_file=str(path), mistake=mistake)
        if chosen is not None:
            _release(chosen, plan)
    # Afterwards: each operator made inside the DAG copies its params, which is half of what parsing costs.
    dag.params.update(_form(chosen))
    return dag


def _release(chosen: ReleasePolicy, plan: PlanOperator) -> None:
    def task(use_case: str, **kwargs: Any) -> UseCaseOperator:
        return UseCaseOperator(task_id=use_case, model=chosen.model, use_case=use_case, **kwargs)

    build, begin, deploy, examine, promote = map(task, ("build", "begin", "deploy", "examine", "promote"))
    steps = [_step(chosen, index) for index in range(len(chosen.steps))]
    soak = WatchOperator(task_id="soak", model=chosen.model, use_case="watch")
    settle = task("settle").as_teardown(setups=begin)
    conclude = ConcludeOperator(task_id="conclude", model=chosen.model, use_case="conclude")
    conclude.as_teardown(setups=begin, on_failure_fail_dagrun=True)
    chain(plan, build, begin, deploy, examine, *steps, promote, soak, settle, conclude)


def _step(chosen: ReleasePolicy, index: int) -> TaskGroup:
    step = chosen.steps[index]
    with TaskGroup(group_id=f"step_{step.weight:02d}", tooltip=f"{step.weight} % for at least {step.hold}") as group:
        shift = UseCaseOperator(task_id="shift", model=chosen.model, use_case="shift", step=index)
        watch = WatchOperator(task_id="watch", model=chosen.model, use_case="watch", step=index)
        chain(shift, watch)
    return group


def _form(chosen: ReleasePolicy | None) -> dict[str, Param]:
    source = f" at {chosen.source}" if chosen else ""
    return {
        "revision": Param(
            type="string", minLength=1, title="Revision", description=f"The revision to release, as it is known{source}"
        ),
        "reason": Param(type="string", minLength=1, title="Reason", description="Why now; kept in the ledger"),
        "dry_run": Param(
            False,
            type="boolean",
            title="Dry run",
            description="Build, deploy and examine only: no user sees the canary",
        ),
    }


def _doc(path: Path, chosen: ReleasePolicy | None, mistake: str) -> str:
    if chosen is None:
        return f"**{path.name} is broken; nothing can be released until it is mended:**\n\n```\n{mistake}\n```"
    ladder = " → ".join(f"{step.weight} %" for step in chosen.steps)
    return (
        f"Releases **{chosen.model}** from `{chosen.source}`: examine, then {ladder}, promote, soak for {chosen.soak}. "
        f"Policy: `{path.name}`. Marking the run failed at any moment gives last good all traffic."
    )

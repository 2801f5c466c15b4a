"""One drill DAG per policy file: a task per fault, one after the other, whatever came of the one before.

A task that is killed goes on where it was when it is tried again. `conclude` is a teardown, which alone runs when a
person marks the run failed as well: it takes back what a drill has left, and fails the run unless every fault was
blocked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk import DAG, BaseOperator, Context, ExceptionRetryPolicy, RetryAction, RetryRule, TriggerRule, chain
from airflow.sdk.exceptions import AirflowTimetableInvalid

from sluice import policy
from sluice.errors import BadInput, LeaseHeld
from sluice.orchestration.operators import PlanOperator, reported
from sluice.orchestration.retries import POLICY, RETRY_DELAY
from sluice.policy import ReleasePolicy

if TYPE_CHECKING:
    from sluice.engine.drill import DrillResult
    from sluice.engine.faults import Fault
    from sluice.ports import Ports
    from sluice.settings import Settings

RETRIES = 10
TURN_DELAY = timedelta(minutes=3)
"""Between two looks whether the release that holds the model has ended."""
WAITING = ExceptionRetryPolicy(
    rules=[
        RetryRule(exception=LeaseHeld, action=RetryAction.RETRY, retry_delay=TURN_DELAY, reason="a release goes first"),
        *POLICY.rules,
    ]
)
"""Unlike a release, a drill waits for its turn."""

Value = TypeVar("Value")


# --- the DAGs --------------------------------------------------------------------------------------------------------


def drill_dags(releases: Path, only: str | None = None) -> dict[str, DAG]:
    """DAGs by id, for every policy in the folder; a broken policy becomes a DAG whose plan fails with the error.

    `only`: the one DAG that a task needs.
    """
    dags = (_dag(path) for path in sorted(releases.glob("*.yaml")) if only in (None, drill_dag_id(path.stem)))
    return {dag.dag_id: dag for dag in dags}


def drill_dag_id(model: str) -> str:
    return f"drill_{model}"


def _dag(path: Path) -> DAG:
    try:
        chosen = policy.read(path)
        dag = _empty_dag(chosen.model, chosen.drill.schedule, _doc(chosen))
        dag.timetable.validate()
    except (BadInput, AirflowTimetableInvalid) as error:
        return _broken(path, error)
    with dag:
        _drills(chosen, path)
    return dag


def _broken(path: Path, error: Exception) -> DAG:
    mistake = str(error) if isinstance(error, BadInput) else f"{path}: drill.schedule: {error}"
    dag = _empty_dag(path.stem, None, f"**{path.name} is broken; nothing can be drilled:**\n\n```\n{mistake}\n```")
    with dag:
        PlanOperator(task_id="plan", model=path.stem, policy_file=str(path), mistake=mistake)
    return dag


def _empty_dag(model: str, schedule: str | None, doc: str) -> DAG:
    return DAG(
        dag_id=drill_dag_id(model),
        description=f"Put deliberately bad versions of {model} through the gates, which must block them",
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        default_args={"retries": RETRIES, "retry_delay": RETRY_DELAY, "retry_policy": WAITING},
        tags=["sluice", model],
        doc_md=doc,
    )


def _drills(chosen: ReleasePolicy, path: Path) -> None:
    faults = chosen.drill.faults
    tasks = [
        DrillOperator(
            task_id=fault, model=chosen.model, policy_file=str(path), fault=fault, trigger_rule=TriggerRule.ALL_DONE
        )
        for fault in faults
    ]
    conclude = ConcludeDrillsOperator(
        task_id="conclude", model=chosen.model, policy_file=str(path), faults=list(faults)
    )
    chain(*tasks, conclude.as_teardown(on_failure_fail_dagrun=True))


def _doc(chosen: ReleasePolicy) -> str:
    return (
        f"Releases of **{chosen.model}**'s stable revision with a fault each ({', '.join(chosen.drill.faults)}), which "
        "the examination must block. No user reaches them. Marking the run failed takes everything back."
    )


# --- the operators ---------------------------------------------------------------------------------------------------


class _DrillOperator(BaseOperator):
    def __init__(self, *, model: str, policy_file: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.policy_file = policy_file

    def release_of(self, context: Context, fault: Fault) -> str:
        from sluice.engine.faults import drill_id

        dag_run = context["dag_run"]
        return drill_id(fault, dag_run.run_after, f"{dag_run.dag_id}/{dag_run.run_id}")

    def with_ports(self, work: Callable[[Ports, ReleasePolicy, Path], Awaitable[Value]]) -> Value:
        """Do the work with the model's ports open."""
        from sluice import assembly
        from sluice.orchestration.connections import task_settings

        async def opened(where: Settings) -> Value:
            chosen = policy.read(Path(self.policy_file))
            async with assembly.ports_for(where, chosen) as ports:
                return await work(ports, chosen, where.root)

        with reported(self.log):
            return asyncio.run(opened(task_settings()))


class DrillOperator(_DrillOperator):
    """Drills one fault; fails unless a gate that fits it blocks the version."""

    def __init__(self, *, fault: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fault = fault

    def execute(self, context: Context) -> dict[str, Any]:
        from sluice.engine.drill import DrillFailed, drill
        from sluice.engine.faults import Fault

        fault = Fault(self.fault)
        release = self.release_of(context, fault)
        who = context["dag_run"].triggering_user_name or str(context["dag_run"].run_type.value)

        async def work(ports: Ports, chosen: ReleasePolicy, root: Path) -> DrillResult:
            result = await drill(
                ports, chosen, fault, release=release, requested_by=who, root=root, progress=self.log.info
            )
            if not result.passed:
                raise DrillFailed(f"{self.model}: the drill {fault} failed: {result.sentence}")
            return result

        return self.with_ports(work).to_record()


class ConcludeDrillsOperator(_DrillOperator):
    """Ends what is still open of the run's drills, and decides the run's state."""

    def __init__(self, *, faults: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.faults = faults

    def execute(self, context: Context) -> list[dict[str, Any]]:
        from sluice.engine.drill import DrillFailed, finish
        from sluice.engine.faults import Fault

        faults = [Fault(name) for name in self.faults]
        releases = {fault: self.release_of(context, fault) for fault in faults}

        async def work(ports: Ports, chosen: ReleasePolicy, root: Path) -> list[DrillResult]:
            ended = [await finish(ports, chosen.model, release) for release in releases.values()]
            return [result for result in ended if result is not None]

        results = self.with_ports(work)
        unproven = set(faults) - {result.fault for result in results if result.passed}
        records = [result.to_record() for result in results]
        if unproven:
            context["ti"].xcom_push(key="return_value", value=records)
            with reported(self.log):
                raise DrillFailed(f"{self.model}: not blocked as they should be: {', '.join(sorted(unproven))}")
        return records

"""The drill DAGs that policies become: one task per fault, and an end that comes whatever happened."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk import DAG, RetryAction, TriggerRule

from sluice.engine.drill import DrillFailed
from sluice.errors import LeaseHeld, Unreachable
from sluice.orchestration.drill import TURN_DELAY, drill_dags

PROJECT = Path(__file__).resolve().parents[3]
POLICY = (PROJECT / "releases" / "arithmetic.yaml").read_text()
SCHEDULED = "drill: {schedule: '0 3 * * 1', faults: [slow, wrong]}"


def a_dag(folder: Path, drill: str = "") -> DAG:
    (folder / "arithmetic.yaml").write_text(f"{POLICY}\n{drill}\n")
    return drill_dags(folder)["drill_arithmetic"]


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> DAG:
    return a_dag(tmp_path_factory.mktemp("releases"))


def test_each_fault_has_its_task_one_after_the_other(dag: DAG) -> None:
    assert [task.task_id for task in dag.topological_sort()] == ["wrong", "slow", "failing", "hanging", "conclude"]
    assert dag.task_dict["slow"].upstream_task_ids == {"wrong"}


def test_a_failed_drill_does_not_keep_the_others_from_running(dag: DAG) -> None:
    faults = [task for name, task in dag.task_dict.items() if name != "conclude"]
    assert {task.trigger_rule for task in faults} == {TriggerRule.ALL_DONE}


def test_conclude_runs_whatever_happened_and_decides_the_run(dag: DAG) -> None:
    conclude = dag.task_dict["conclude"]
    assert conclude.is_teardown
    assert conclude.on_failure_fail_dagrun
    assert conclude.upstream_task_ids == {"hanging"}


def test_a_policy_without_a_schedule_is_drilled_when_somebody_asks(dag: DAG) -> None:
    assert dag.schedule is None


def test_schedule_and_faults_are_the_policys(tmp_path: Path) -> None:
    dag = a_dag(tmp_path, SCHEDULED)
    assert dag.schedule == "0 3 * * 1"
    assert list(dag.task_dict) == ["slow", "wrong", "conclude"]


def test_one_drill_of_a_model_at_a_time_none_for_the_past_and_never_a_run_timeout(dag: DAG) -> None:
    assert dag.max_active_runs == 1
    assert not dag.catchup
    assert dag.dagrun_timeout is None


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (LeaseHeld("a release holds it"), RetryAction.RETRY),
        (Unreachable("nobody answers"), RetryAction.RETRY),
        (DrillFailed("not blocked"), RetryAction.FAIL),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_drill_waits_for_its_turn_and_a_failed_one_is_final(dag: DAG, error: Exception, action: RetryAction) -> None:
    task = dag.task_dict["wrong"]
    decided = task.retry_policy.evaluate(error, 1, task.retries)
    assert decided.action is action
    if isinstance(error, LeaseHeld):
        assert decided.retry_delay == TURN_DELAY


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("model: broken\nsteps: 5\n", "broken.yaml:2: steps"),
        (POLICY.replace("model: arithmetic", "model: broken") + "drill: {schedule: at noon}\n", "drill.schedule: "),
        (POLICY, "rename the file to arithmetic.yaml"),
    ],
    ids=["field", "schedule", "name"],
)
def test_a_broken_policy_leaves_the_others_their_dags(tmp_path: Path, text: str, mistake: str) -> None:
    (tmp_path / "arithmetic.yaml").write_text(POLICY)
    (tmp_path / "broken.yaml").write_text(text)
    dags = drill_dags(tmp_path)
    assert set(dags) == {"drill_arithmetic", "drill_broken"}
    assert list(dags["drill_broken"].task_dict) == ["plan"]
    assert mistake in dags["drill_broken"].task_dict["plan"].mistake


def test_a_task_pays_for_its_own_model_only(tmp_path: Path) -> None:
    (tmp_path / "arithmetic.yaml").write_text(POLICY)
    (tmp_path / "second.yaml").write_text(POLICY.replace("model: arithmetic", "model: second"))
    assert set(drill_dags(tmp_path, only="drill_second")) == {"drill_second"}


def test_parsing_imports_no_adapter_and_no_use_case() -> None:
    heavy = "{'kubernetes_asyncio', 'docker', 'httpx', 'fsspec', 'numpy', 'sluice.assembly', 'sluice.engine'}"
    code = f"import sys, sluice.orchestration.drill; print(sorted(({heavy} & set(sys.modules)) - before))"
    program = f"import sys, airflow.sdk.definitions.dag, airflow.triggers.base; before = set(sys.modules); {code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""The DAGs that policies become: their shape, their form, and what parsing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from airflow.sdk import DAG

from sluice.orchestration.dag import release_dags

PROJECT = Path(__file__).resolve().parents[3]
POLICY = (PROJECT / "releases" / "arithmetic.yaml").read_text()


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> DAG:
    folder = tmp_path_factory.mktemp("releases")
    (folder / "arithmetic.yaml").write_text(POLICY)
    return release_dags(folder)["release_arithmetic"]


def upstream(dag: DAG, task_id: str) -> set[str]:
    return dag.task_dict[task_id].upstream_task_ids


def test_the_graph_reads_like_the_policy(dag: DAG) -> None:
    order = [task.task_id for task in dag.topological_sort()]
    assert order == [
        *("plan", "build", "begin", "deploy", "examine"),
        *("step_05.shift", "step_05.watch", "step_25.shift", "step_25.watch", "step_50.shift", "step_50.watch"),
        *("promote", "soak", "settle", "conclude"),
    ]


def test_each_task_needs_the_one_before(dag: DAG) -> None:
    assert upstream(dag, "build") == {"plan"}
    assert upstream(dag, "step_25.shift") == {"step_05.watch"}
    assert upstream(dag, "promote") == {"step_50.watch"}
    assert upstream(dag, "soak") == {"promote"}


def test_settle_and_conclude_undo_begin_whatever_happens(dag: DAG) -> None:
    settle, conclude = dag.task_dict["settle"], dag.task_dict["conclude"]
    assert dag.task_dict["begin"].is_setup
    assert settle.is_teardown
    assert conclude.is_teardown
    assert {"begin", "soak"} <= settle.upstream_task_ids
    assert {"begin", "settle"} <= conclude.upstream_task_ids


def test_only_conclude_decides_the_run(dag: DAG) -> None:
    assert dag.task_dict["conclude"].on_failure_fail_dagrun
    assert not dag.task_dict["settle"].on_failure_fail_dagrun


def test_one_release_of_a_model_at_a_time_and_never_a_run_timeout(dag: DAG) -> None:
    assert dag.max_active_runs == 1
    assert dag.dagrun_timeout is None
    assert not dag.catchup


def test_the_form_asks_for_a_revision_and_a_reason(dag: DAG) -> None:
    assert dag.params.get_param("revision").schema["minLength"] == 1
    assert dag.params.get_param("reason").schema["minLength"] == 1
    assert dag.params["dry_run"] is False


def test_a_broken_policy_leaves_the_others_their_dags(tmp_path: Path) -> None:
    (tmp_path / "arithmetic.yaml").write_text(POLICY)
    (tmp_path / "broken.yaml").write_text("model: broken\nsteps: 5\n")
    dags = release_dags(tmp_path)
    assert set(dags) == {"release_arithmetic", "release_broken"}
    assert list(dags["release_broken"].task_dict) == ["plan"]
    assert "broken.yaml:2: steps" in dags["release_broken"].task_dict["plan"].mistake


def test_a_policy_in_a_file_of_another_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(POLICY)
    assert "rename the file to arithmetic.yaml" in release_dags(tmp_path)["release_other"].task_dict["plan"].mistake


def test_a_task_pays_for_its_own_model_only(tmp_path: Path) -> None:
    (tmp_path / "arithmetic.yaml").write_text(POLICY)
    (tmp_path / "second.yaml").write_text(POLICY.replace("model: arithmetic", "model: second"))
    assert set(release_dags(tmp_path, only="release_second")) == {"release_second"}


def test_parsing_imports_no_adapter() -> None:
    heavy = "{'kubernetes_asyncio', 'kubernetes', 'docker', 'httpx', 'fsspec', 'sluice.assembly'}"
    code = f"import sys, sluice.orchestration.dag; print(sorted(({heavy} & set(sys.modules)) - before))"
    program = f"import sys, airflow.sdk.definitions.dag, airflow.triggers.base; before = set(sys.modules); {code}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

"""Airflow's REST API as the demo and the end-to-end tests use it: trigger a run, follow it, read what it left.

Objects are plain dictionaries as the API answers them (`dag_run_id`, `state`, …): only a few of their fields matter.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Literal, Self

import httpx

from sandbox.airflow.errors import NotUp, Overdue, Rejected
from sandbox.airflow.settings import USER, Settings, secrets_of

Json = dict[str, Any]

FINISHED = frozenset({"success", "failed"})
POLL_SECONDS = 0.5
REQUEST_SECONDS = 30.0
DATABASE_RETRIES = 3
"""How often a request that found the database locked is sent again; each try has waited for 5 s."""


class Client:
    """One user's session; the token is fetched when it is first needed, and again when it has run out.

    Every method raises NotUp if nobody answers, and Rejected if the API refuses.
    """

    def __init__(self, url: str, password: str, user: str = USER, start_command: str = "python -m sandbox.airflow up"):
        self.url = url
        self._login = {"username": user, "password": password}
        self._start_command = start_command
        self._http = httpx.Client(base_url=url, timeout=REQUEST_SECONDS, trust_env=False)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The administrator's client of an installation of the sandbox."""
        from sandbox.airflow.lifecycle import command

        return cls(settings.url, secrets_of(settings.home).password, start_command=command(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    # --- DAGs --------------------------------------------------------------------------------------------------------

    def health(self) -> Json:
        """`/monitor/health`: a part's name → {"status": …}."""
        return self._get("/monitor/health")

    def dags(self) -> list[Json]:
        return self._list("/dags", "dags")

    def import_errors(self) -> list[Json]:
        """DAG files that could not be read: `filename`, `stack_trace`."""
        return self._list("/importErrors", "import_errors")

    def await_dag(self, dag_id: str, seconds: float = 60) -> None:
        """Wait until Airflow knows the DAG and can run it. Raises Overdue, with the import errors that there are."""
        deadline = time.monotonic() + seconds
        while not any(dag["dag_id"] == dag_id and not dag["is_stale"] for dag in self.dags()):
            if time.monotonic() > deadline:
                errors = "; ".join(f"{error['filename']}: {error['stack_trace']}" for error in self.import_errors())
                raise Overdue(f"DAG {dag_id} is not there after {seconds:.0f} s. Import errors: {errors or 'none'}")
            time.sleep(POLL_SECONDS)

    def unpause(self, dag_id: str) -> None:
        self._request("PATCH", f"/dags/{dag_id}", json={"is_paused": False})

    def pause(self, dag_id: str) -> None:
        self._request("PATCH", f"/dags/{dag_id}", json={"is_paused": True})

    # --- runs --------------------------------------------------------------------------------------------------------

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, run_id: str | None = None, note: str | None = None
    ) -> Json:
        """Start a run. Raises Rejected: 400 for params that the DAG refuses, 409 if the run id exists."""
        body = {"logical_date": None, "conf": dict(conf or {}), "dag_run_id": run_id, "note": note}
        return self._object("POST", f"/dags/{dag_id}/dagRuns", body)

    def run(self, dag_id: str, run_id: str) -> Json:
        return self._get(f"/dags/{dag_id}/dagRuns/{run_id}")

    def runs(self, dag_id: str) -> list[Json]:
        """All runs of a DAG, newest first."""
        return self._list(f"/dags/{dag_id}/dagRuns?order_by=-run_after", "dag_runs")

    def wait(
        self,
        dag_id: str,
        run_id: str,
        seconds: float,
        on_change: Callable[[Json], None] = lambda task: None,
        poll_seconds: float = POLL_SECONDS,
    ) -> Json:
        """The run, once it has finished; `on_change` gets each task instance whose state or try changed.

        Raises Overdue, with the states of the tasks, if it runs for longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        seen: dict[str, tuple[Any, Any]] = {}
        while True:
            run = self.run(dag_id, run_id)
            tasks = self.task_instances(dag_id, run_id)
            for task in tasks:
                state = (task["state"], task["try_number"])
                if task["state"] is not None and seen.get(task["id"]) != state:
                    seen[task["id"]] = state
                    on_change(task)
            if run["state"] in FINISHED:
                return run
            if time.monotonic() > deadline:
                states = ", ".join(f"{task['task_id']} {task['state']}" for task in tasks if task["state"])
                raise Overdue(f"Run {run_id} of {dag_id} is {run['state']} after {seconds:.0f} s: {states}")
            time.sleep(poll_seconds)

    def mark_run(self, dag_id: str, run_id: str, state: Literal["success", "failed", "queued"]) -> Json:
        return self._object("PATCH", f"/dags/{dag_id}/dagRuns/{run_id}", {"state": state})

    # --- tasks -------------------------------------------------------------------------------------------------------

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        """The run's tasks in the order in which they started; those that did not start yet come last."""
        tasks = self._list(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances", "task_instances")
        return sorted(tasks, key=lambda task: (task["start_date"] is None, task["start_date"], task["task_id"]))

    def task(self, dag_id: str, run_id: str, task_id: str) -> Json:
        return self._get(f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}")

    def await_task(self, dag_id: str, run_id: str, task_id: str, states: Collection[str], seconds: float) -> Json:
        """The task instance, once its state is one of `states`. Raises Overdue."""
        deadline = time.monotonic() + seconds
        while (task := self.task(dag_id, run_id, task_id))["state"] not in states:
            if time.monotonic() > deadline:
                raise Overdue(f"Task {task_id} of run {run_id} is {task['state']} after {seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        return task

    def mark_task(self, dag_id: str, run_id: str, task_id: str, state: Literal["success", "failed", "skipped"]) -> None:
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        self._request("PATCH", path, json={"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_ids: Sequence[str], downstream: bool = True) -> None:
        """Let tasks (and what follows them) run again."""
        body = {
            "dry_run": False,
            "dag_run_id": run_id,
            "task_ids": list(task_ids),
            "include_downstream": downstream,
            "only_failed": False,
            "reset_dag_runs": True,
        }
        self._request("POST", f"/dags/{dag_id}/clearTaskInstances", json=body)

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """What a task returned; None if it returned nothing."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}?deserialize=true"
        try:
            return self._get(path)["value"]
        except Rejected as error:
            if error.status == 404:
                return None
            raise

    def log(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1) -> str:
        """One try's log, a line per message."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        answer = self._request("GET", path, headers={"accept": "application/x-ndjson"})
        return "\n".join(json.loads(line)["event"] for line in answer.text.splitlines())

    # --- HTTP --------------------------------------------------------------------------------------------------------

    def _list(self, path: str, key: str) -> list[Json]:
        found: list[Json] = []
        while True:
            page = self._get(f"{path}{'&' if '?' in path else '?'}limit=100&offset={len(found)}")
            found += page[key]
            if not page[key] or len(found) >= page["total_entries"]:
                return found

    def _get(self, path: str) -> Json:
        return self._object("GET", path)

    def _object(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Json:
        answer: Json = self._request(method, path, json=body).json()
        return answer

    def _request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        if "authorization" not in self._http.headers:
            self._authenticate()
        answer = self._send(method, f"/api/v2{path}", **arguments)
        if answer.status_code == 401:
            self._authenticate()
            answer = self._send(method, f"/api/v2{path}", **arguments)
        for _ in range(DATABASE_RETRIES):
            if not _database_was_locked(answer):
                break
            answer = self._send(method, f"/api/v2{path}", **arguments)
        return _accepted(answer)

    def _authenticate(self) -> None:
        self._http.headers.pop("authorization", None)
        answer = _accepted(self._send("POST", "/auth/token", json=self._login))
        self._http.headers["authorization"] = f"Bearer {answer.json()['access_token']}"

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            raise NotUp(f"Airflow is not up at {self.url} ({error}); start it with `{self._start_command}`") from error


def _database_was_locked(answer: httpx.Response) -> bool:
    """On SQLite a request can wait for the write lock of another one, in the same process, that waits for it.

    Airflow commits the audit log of a request on its event loop, which the other request needs to let go of the lock;
    after SQLite's 5 s the first one fails as a whole, its transaction undone, so that it can be sent again.
    """
    if answer.status_code != httpx.codes.INTERNAL_SERVER_ERROR:
        return False
    try:
        return bool(answer.json()["detail"]["reason"] == "Database error")
    except (ValueError, KeyError, TypeError):
        return False


def _accepted(answer: httpx.Response) -> httpx.Response:
    if answer.is_success:
        return answer
    try:
        detail = answer.json()["detail"]
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:300]
    request = f"{answer.request.method} {answer.request.url.path}"
    raise Rejected(f"Airflow refused {request}: {answer.status_code} {detail}", answer.status_code)

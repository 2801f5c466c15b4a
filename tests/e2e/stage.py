"""A world of its own for the end-to-end tests: real Airflow, guard, Envoy and model servers on free ports."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import psutil

from benchmarks.demo.world import ROOT, World, up
from sandbox.airflow import lifecycle
from sandbox.airflow.client import Client
from sandbox.engine.description import Engine
from sluice import assembly, settings
from sluice.ledger.summary import summary
from sluice.orchestration.tasks import release_id
from sluice.ports import Entry
from tests.docker_engine import STATE as ENGINE_STATE
from tests.e2e.cluster import NAMESPACE, Cluster
from tests.e2e.users import Users

T = TypeVar("T")

MODEL = "arithmetic"
HOST = "arithmetic.example.com"
DAG = f"release_{MODEL}"
PROMPTS_KEPT_EVERY = 6
EDGES_SECONDS = (
    *(0.001, 0.00125, 0.0016, 0.002, 0.0025, 0.0032, 0.004, 0.005, 0.0063, 0.008, 0.01, 0.0125, 0.016, 0.02, 0.025),
    *(0.032, 0.04, 0.05, 0.063, 0.08, 0.1, 0.125, 0.16, 0.2, 0.25, 0.32, 0.4, 0.5, 0.75, 1.0),
    *(1.5, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0),
)
"""Of the servers' histograms: close together where tokens are timed, so that threefold ones are found at any speed."""
POLL_SECONDS = 0.2


def until(condition: Callable[[], T], what: str, seconds: float = 60.0, pause_seconds: float = POLL_SECONDS) -> T:
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(pause_seconds)
    return value


@dataclass(frozen=True)
class Finished:
    """What came of a release, told by the three who know: Airflow, the ledger, and the run's result."""

    state: str
    """Of the run."""
    result: Mapping[str, Any] | None
    """What the task `conclude` returned."""
    told: Mapping[str, Any]
    entries: Sequence[Entry]

    @property
    def version(self) -> str:
        return str(self.told["version"])

    @property
    def sentence(self) -> str:
        return str(self.result["sentence"]) if self.result else ""

    def shifts(self) -> list[int]:
        """Steps whose weight was written, in order."""
        return [entry.data["step"] for entry in self.entries if entry.kind == "shifted"]

    def seconds_from_verdict_to(self, last_start: float) -> float:
        """From the look that decided to roll back; 0 if nobody started after it."""
        looks = (entry for entry in self.entries if entry.kind == "look" and entry.data["action"] == "roll_back")
        return max(0.0, last_start - next(looks).at.timestamp())


@dataclass(frozen=True)
class Release:
    """A run that was triggered, and its release."""

    stage: Stage
    run_id: str
    id: str

    @property
    def entries(self) -> Sequence[Entry]:
        return asyncio.run(self.stage.ledger().entries(MODEL, self.id))

    def saw(self, kind: str, **data: Any) -> Entry | None:
        """The first entry of a kind with these data."""
        for entry in self.entries:
            if entry.kind == kind and data.items() <= entry.data.items():
                return entry
        return None

    def until(self, kind: str, *, seconds: float = 90.0, pause_seconds: float = POLL_SECONDS, **data: Any) -> Entry:
        """Wait for an entry of the ledger."""
        found = until(lambda: self.saw(kind, **data), f"{kind} {data}", seconds, pause_seconds)
        assert found is not None
        return found

    def finished(self, seconds: float = 240.0) -> Finished:
        """Wait for the run's end."""
        with self.stage.airflow() as airflow:
            run = airflow.wait(DAG, self.run_id, seconds, poll_seconds=1.0)
            result = airflow.xcom(DAG, self.run_id, "conclude")
        entries = self.entries
        return Finished(run["state"], result, summary(entries), entries)

    def task(self, task_id: str) -> dict[str, Any]:
        with self.stage.airflow() as airflow:
            return airflow.task(DAG, self.run_id, task_id)

    def process_of(self, task_id: str) -> psutil.Process:
        """Wait for the process that runs a task."""
        title = f"airflow worker -- {self.task(task_id)['id']}"
        found = until(lambda: self.stage.process_titled(title), f"a process of {task_id}", pause_seconds=0.005)
        assert found is not None
        return found


class Stage:
    """The world, the folders of policies and revisions, and what the tests do with them."""

    def __init__(self, state: Path, engine: Engine | None = None) -> None:
        """With an engine, pods are containers of images that the releases build; without, processes."""
        self.state = state
        self._image = {"repository": "sandbox/arithmetic"}
        if engine is not None:
            # A repository of its own: what an earlier world has pushed would not be built again.
            repository = f"{engine.registry}/{secrets.token_hex(4)}/arithmetic"
            self._image = {"repository": repository, "base": engine.base_image}
        project = state / "project"
        self.revisions = project / "revisions"
        self.releases = project / "releases"
        self.prompts = project / "prompts.jsonl"
        self.context = project / "model_image"
        runtime, shared = ("docker", ENGINE_STATE) if engine else ("process", None)
        self.world = World(state, _free_port(), ("--ephemeral-ports",), self.releases, runtime, shared)
        self._write_project()

    def up(self) -> None:
        """Start everything; `cluster` is there from then on."""
        up(self.world)
        self.cluster = Cluster(self.world.addresses(), MODEL)

    def processes(self) -> list[str]:
        """Command lines of everything that belongs to this world."""
        return [command for process in psutil.process_iter() if (command := _command(process, str(self.state)))]

    def process_titled(self, title: str) -> psutil.Process | None:
        """One of Airflow's processes."""
        for pid in lifecycle.all_pids(self.world.airflow):
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if " ".join(process.cmdline()).strip() == title:
                    return process
        return None

    def airflow(self) -> Client:
        return self.world.client()

    def ledger(self) -> Any:
        return assembly.ledger(settings.read(self.world.variables()))

    def airflow_up(self) -> None:
        lifecycle.up(self.world.airflow, print, os.environ | self.world.variables())

    def sandbox_up(self) -> None:
        """Start again what of the sandbox was killed."""
        described = self.world.addresses()
        where = ("--state", described["state"], "--bundles", described["bundles"])
        command = [sys.executable, "-m", "sandbox", "up", *where, "--runtime-path", described["runtime_path"]]
        runtime = ("--runtime", described["runtime"])
        subprocess.run([*command, *runtime, *self.world.sandbox_options], cwd=ROOT, check=True)

    # --- what is released --------------------------------------------------------------------------------------------

    def revision(self, name: str, base: str = "r2", **serving: Any) -> str:
        """A revision with the files of `base` and these serving settings."""
        location = self.revisions / name
        shutil.copytree(ROOT / "model_image" / "arithmetic" / base, location)
        if serving:
            (location / "serving.json").write_text(json.dumps(serving))
        return name

    def policy(self, **changes: Any) -> None:
        """Write the model's policy: quick and with wide margins, but for `changes` (top-level fields)."""
        text = json.dumps(self._policy() | changes, indent=2)
        draft = self.releases / ".draft"
        draft.write_text(text)
        draft.replace(self.releases / f"{MODEL}.yaml")

    @contextlib.contextmanager
    def users(self, requests_per_second: float = 25) -> Iterator[Users]:
        """Users' requests from now on until the end."""
        prompts = [json.loads(line) for line in self.prompts.read_text().splitlines()]
        crowd = Users(self.world.addresses()["gateway_url"], HOST, MODEL, prompts, requests_per_second)
        crowd.start()
        try:
            until(lambda: crowd.answered > 50, "users get answers")
            yield crowd
        finally:
            crowd.stop()

    def release(self, revision: str, **conf: Any) -> Release:
        """Trigger a release of a revision."""
        with self.airflow() as airflow:
            airflow.await_dag(DAG)
            run = airflow.trigger(DAG, {"revision": revision, "reason": f"test {revision}", **conf})
        run_id = run["dag_run_id"]
        return Release(self, run_id, release_id(DAG, run_id, datetime.fromisoformat(run["run_after"])))

    def _write_project(self) -> None:
        for folder in (self.revisions, self.releases, self.context):
            folder.mkdir(parents=True)
        # Copies: what is edited in the working tree meanwhile must not become another version here.
        for name in ("Dockerfile", "requirements.lock"):
            shutil.copy(ROOT / "model_image" / name, self.context / name)
        leave_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "model_image" / "serving", self.context / "serving", ignore=leave_out)
        lines = (ROOT / "prompts" / "arithmetic.jsonl").read_text().splitlines(keepends=True)
        self.prompts.write_text("".join(lines[::PROMPTS_KEPT_EVERY]))
        self.policy()

    def _policy(self) -> dict[str, Any]:
        return {
            "model": MODEL,
            "source": f"dir://{self.revisions}",
            "image": {"context": str(self.context), **self._image},
            "serving": {
                "namespace": NAMESPACE,
                "host": HOST,
                "replicas": 1,
                "memory": "2Gi",
                "cpu": 1,
                "settings": {
                    "drain_delay_seconds": 0.3,
                    "request_deadline_seconds": 30,
                    "max_queue": 1000,
                    "ui": False,
                    "time_buckets_seconds": ",".join(f"{edge:g}" for edge in EDGES_SECONDS),
                },
            },
            "steps": ladder(),
            "gates": self.gates(),
            "tick": "500ms",
            "max_hold": "120s",
            "soak": "2s",
            "lease": "120s",
            "deadlines": {"ready": "90s", "drain": "10s"},
            "data": {"missing": {"after": "60s", "then": "roll_back"}},
        }

    def gates(self, **latency: str) -> dict[str, Any]:
        """Limits that nobody meets on a machine that is busy with other things, but for those named."""
        limits = {"ttft": "10s", "tpot": "1s", "e2e": "30s", "margin": 0.4, "ceiling": 0.5, **latency}
        quality = {"prompts": str(self.prompts), "margin": 0.1, "floor": 0.6}
        return {"quality": quality, "errors": {"margin": 0.3}, "latency": limits}


def assert_at_rest(stage: Stage) -> None:
    cluster = stage.cluster
    (version,) = cluster.weights
    assert cluster.weights == {version: 100}
    assert cluster.record["closed"] == "true"
    assert cluster.routes == ["primary"]
    assert cluster.subsets == [version]
    assert cluster.deployments == [version]
    assert cluster.lease_holder == ""


def assert_no_user_lost(stage: Stage, users: Users, excused: set[str]) -> None:
    """To a version without a fault of its own."""
    lost = [(stage.cluster.version_of(failure.request_id), failure) for failure in list(users.failures)]
    assert [(version, failure) for version, failure in lost if version not in excused] == []


def ladder(first: Mapping[str, Any] | None = None, second: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """10 → 50 %, with changes to each."""
    return [
        {"weight": 10, "hold": "2s", "requests": 10, **(first or {})},
        {"weight": 50, "hold": "3s", "requests": 40, **(second or {})},
    ]


def _command(process: psutil.Process, state: str) -> str:
    """The command line of a process whose command, directory or environment names the state; "" for others."""
    try:
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return ""
        command = " ".join(process.cmdline())
        where = [command, process.cwd(), *process.environ().values()]
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""
    return command if any(state in each for each in where) else ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

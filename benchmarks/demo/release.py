"""One release through Airflow's REST API, followed to its end.

`python -m benchmarks.demo.release --model arithmetic --revision r3` triggers it, says what happens, and exits 0 if the
revision was promoted.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import datetime
from typing import Any

from benchmarks.demo.report import overhead, table
from benchmarks.demo.world import World, WorldError
from sandbox.airflow.errors import AirflowError
from sluice import assembly, settings
from sluice.ledger.summary import summary
from sluice.orchestration.tasks import release_id

RELEASE_SECONDS = 600.0
QUIET_STATES = frozenset({"scheduled", "queued"})


def trigger(world: World, model: str, revision: str, reason: str) -> tuple[str, str]:
    """Start a release. Returns the run's id and the release's. Raises WorldError for a model without a policy."""
    known = sorted(path.stem for path in world.releases.glob("*.yaml"))
    if model not in known:
        raise WorldError(f"model {model!r} has no policy in {world.releases}; the known ones are {', '.join(known)}")
    dag_id = f"release_{model}"
    with world.client() as client:
        client.await_dag(dag_id)
        run = client.trigger(dag_id, {"revision": revision, "reason": reason})
    run_id = run["dag_run_id"]
    return run_id, release_id(dag_id, run_id, datetime.fromisoformat(run["run_after"]))


def follow(world: World, model: str, run_id: str) -> str:
    """Wait for the run's end, with a line for each task that changes. Returns the run's state."""

    def say(task: dict[str, Any]) -> None:
        if task["state"] not in QUIET_STATES:
            print(f"    {task['task_id']:<16} {task['state']}", flush=True)

    with world.client() as client:
        run: dict[str, Any] = client.wait(f"release_{model}", run_id, RELEASE_SECONDS, say)
    return str(run["state"])


def told(world: World, model: str, release: str) -> dict[str, Any]:
    """What the ledger tells of a release."""
    ledger = assembly.ledger(settings.read(world.variables()))
    return {"release": release, **summary(asyncio.run(_entries(ledger, model, release)))}


async def _entries(ledger: Any, model: str, release: str) -> Any:
    return await ledger.entries(model, release)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--revision", required=True)
    parser.add_argument("--reason", default="released from the command line")
    options = parser.parse_args()
    world = World()
    try:
        run_id, release = trigger(world, options.model, options.revision, options.reason)
        print(f"release {release} of {options.model} {options.revision}", flush=True)
        follow(world, options.model, run_id)
        outcome = told(world, options.model, release)
    except (WorldError, AirflowError) as error:
        print(error, file=sys.stderr)
        return 2
    print(table([outcome]) + overhead(outcome))
    return 0 if outcome["outcome"] in ("promoted", "nothing_to_do") else 1


if __name__ == "__main__":
    sys.exit(main())

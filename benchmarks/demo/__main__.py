"""`make demo`: one good and three further revisions of a small model, released for real while users send requests.

r1 becomes the first stable version, r2 is better and must be promoted, r3 has damaged weights and must be stopped
before a user sees it, r4 fails a kind of request that only users send and must be caught by live traffic and rolled
back. Exits 0 only if all of that happened and every claim holds; leaves everything running for a look.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.demo import observer
from benchmarks.demo.claims import claims_of
from benchmarks.demo.load import RESULTS
from benchmarks.demo.release import follow, told, trigger
from benchmarks.demo.report import Claim, overhead, table, write
from benchmarks.demo.world import ROOT, World, WorldError, reset, up
from benchmarks.parse import parse_seconds
from sandbox.airflow.errors import AirflowError

MODEL = "arithmetic"
EXPECTED = {"r1": "promoted", "r2": "promoted", "r3": "rolled_back", "r4": "rolled_back"}
REASONS = {
    "r1": "the first version",
    "r2": "trained to the end: better answers",
    "r3": "a refresh with damaged weights",
    "r4": "a refresh with a cache too small for long prompts",
}
REQUESTS_PER_SECOND = 24
LOAD_SECONDS = 900
FIRST_REQUESTS = 50
"""Users' requests before the next release, so that stable has a history."""
FIRST_REQUESTS_SECONDS = 60.0


def demo(world: World) -> int:
    """Run the story. Returns the exit status."""
    began = time.monotonic()
    reset(world)
    up(world)
    releases = [_release(world, "r1")]
    with _users(world) as results:
        for revision in ("r2", "r3", "r4"):
            releases.append(_release(world, revision))
    return _report(world, releases, results, time.monotonic() - began)


def _release(world: World, revision: str) -> dict[str, Any]:
    print(f"\nrelease {revision}: {REASONS[revision]}", flush=True)
    run_id, release = trigger(world, MODEL, revision, REASONS[revision])
    follow(world, MODEL, run_id)
    outcome = told(world, MODEL, release)
    print(f"  → {outcome['outcome']}: {outcome['reason']}\n    {overhead(outcome)}", flush=True)
    return outcome


@contextmanager
def _users(world: World) -> Iterator[Path]:
    """Users' requests in the background; yields the directory of their results."""
    results = world.state / "demo"
    results.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.demo.load", "--gateway", world.addresses()["gateway_url"]]
    command += ["--host", "arithmetic.example.com", "--rate", str(REQUESTS_PER_SECOND), "--out", str(results)]
    print(f"\nusers send {REQUESTS_PER_SECOND} requests a second from now on", flush=True)
    load = subprocess.Popen([*command, "--max-seconds", str(LOAD_SECONDS)], cwd=ROOT)
    try:
        _await_requests(load, results)
        yield results
    finally:
        load.terminate()
        load.wait(timeout=60)


def _await_requests(load: subprocess.Popen[bytes], results: Path) -> None:
    """Until users have been answered. Raises WorldError if that does not come about."""
    deadline = time.monotonic() + FIRST_REQUESTS_SECONDS
    answered = results / RESULTS
    while not answered.exists() or len(answered.read_text().splitlines()) < FIRST_REQUESTS:
        if load.poll() is not None or time.monotonic() > deadline:
            raise WorldError(f"users' requests get no answers; look at the gateway's access log and {answered}")
        time.sleep(0.2)


def _report(world: World, releases: list[dict[str, Any]], results: Path, seconds: float) -> int:
    seen = observer.read(results, world.sandbox / "gateway" / "access.log")
    for release in releases:
        release["users"] = observer.users_of(seen, release["version"])
    claims = claims_of(releases, seen, parse_seconds())
    print("\n" + table(releases))
    for claim in claims:
        print(f"  {claim}")
    path = world.state / "demo" / "report.json"
    write(path, releases, claims)
    print(f"\n{seconds:.0f} s in all; written to {path}. Everything still runs: `make down` stops it.")
    return _verdict(releases, claims)


def _verdict(releases: list[dict[str, Any]], claims: list[Claim]) -> int:
    wrong = [
        f"{release['revision']} was {release['outcome']}, expected {EXPECTED[release['revision']]}"
        for release in releases
        if release["outcome"] != EXPECTED[release["revision"]]
    ]
    wrong += [str(claim) for claim in claims if not claim.holds]
    for problem in wrong:
        print(f"  {problem}", file=sys.stderr)
    return 1 if wrong else 0


def main() -> int:
    try:
        return demo(World())
    except (WorldError, AirflowError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())

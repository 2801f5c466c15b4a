"""How long Airflow's DAG processor parses dags/releases.py with 200 policies: `python -m benchmarks.parse`."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

POLICIES = 200
ROUNDS = 3
PROJECT = Path(__file__).resolve().parents[1]

# As in the processor's child: Airflow is imported already, what the DAG file imports is not.
_PROGRAM = """
import sys, time
import airflow.sdk, airflow.triggers.base
from pathlib import Path
began = time.perf_counter()
from sluice.orchestration.dag import release_dags
assert len(release_dags(Path(sys.argv[1]))) == int(sys.argv[2])
print(time.perf_counter() - began)
"""


def parse_seconds() -> float:
    """Median of some rounds, each in a process of its own."""
    policy = (PROJECT / "releases" / "arithmetic.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(POLICIES):
            name = f"model-{number:03}"
            (Path(folder) / f"{name}.yaml").write_text(policy.replace("model: arithmetic", f"model: {name}", 1))
        command = [sys.executable, "-c", _PROGRAM, folder, str(POLICIES)]
        rounds = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(ROUNDS)]
    return median(float(done.stdout) for done in rounds)


if __name__ == "__main__":
    print(f"{POLICIES} policies: {parse_seconds():.2f} s")

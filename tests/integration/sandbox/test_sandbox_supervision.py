"""`python -m sandbox up | down | status`, each test with a sandbox of its own."""

from __future__ import annotations

import json
import signal
import socket
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_sandbox import LiveSandbox, make_bundle, sandbox_command, until, up_options

from sandbox.processes import ProcessIdentity

NAMES = ("apiserver", "controllers", "node", "gateway")


def processes(state: Path) -> dict[str, ProcessIdentity | None]:
    return {name: ProcessIdentity.read(state / "pids" / f"{name}.json") for name in NAMES}


def start(state: Path, tmp_path: Path) -> str:
    done = sandbox_command("up", state, *up_options(tmp_path / "bundles"))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_up_is_quick_and_down_leaves_nothing(own_state: Path, tmp_path: Path) -> None:
    began = time.monotonic()
    start(own_state, tmp_path)
    assert time.monotonic() - began < 5
    started = processes(own_state)
    envoy = ProcessIdentity.read(own_state / "gateway" / "envoy.pid")
    described = json.loads((own_state / "sandbox.json").read_text())
    assert httpx.get(f"{described['node_url']}/healthz").text == "ok"
    assert sandbox_command("down", own_state).returncode == 0
    for process in (*started.values(), envoy):
        assert process
        assert not process.alive()
    assert sandbox_command("status", own_state).returncode == 1


def test_a_second_up_leaves_what_runs_and_starts_what_died(own_state: Path, tmp_path: Path) -> None:
    start(own_state, tmp_path)
    before = processes(own_state)
    assert "is not running any more" not in start(own_state, tmp_path)
    assert processes(own_state) == before
    node = before["node"]
    assert node
    node.signal(signal.SIGKILL)
    until(lambda: not node.alive(), "the node is gone")
    assert sandbox_command("status", own_state).returncode == 1
    assert "node is not running any more: starting it again" in start(own_state, tmp_path)
    after = processes(own_state)
    assert {name for name in NAMES if after[name] != before[name]} == {"node"}
    assert sandbox_command("status", own_state).returncode == 0


@pytest.mark.parametrize("option", ["--api-port", "--gateway-port", "--metrics-port", "--node-port"])
def test_a_taken_port_is_named_and_nothing_is_left(own_state: Path, tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = {name: "0" for name in ("--api-port", "--gateway-port", "--metrics-port", "--node-port")}
        arguments = [text for pair in {**ports, option: str(port)}.items() for text in pair]
        done = sandbox_command("up", own_state, "--bundles", str(tmp_path), *arguments)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert option in done.stderr
    assert "Traceback" not in done.stderr
    assert set(processes(own_state).values()) == {None}


def test_other_settings_are_refused_while_it_runs(own_state: Path, tmp_path: Path) -> None:
    start(own_state, tmp_path)
    done = sandbox_command("up", own_state, *up_options(tmp_path / "elsewhere"))
    assert done.returncode == 1
    assert "runs with other settings (bundles" in done.stderr
    assert all(process and process.alive() for process in processes(own_state).values())


def test_a_stale_pid_file_signals_nobody(own_state: Path) -> None:
    """The pid belongs to another process by now: this test's."""
    own = ProcessIdentity.of(int(Path("/proc/self").resolve().name))
    assert own
    ProcessIdentity(own.pid, own.start_ticks - 1).write(own_state / "pids" / "node.json")
    assert sandbox_command("down", own_state).returncode == 0
    assert own.alive()
    assert not (own_state / "pids" / "node.json").exists()


def pod_process(state: Path, pod: dict[str, Any]) -> ProcessIdentity | None:
    return ProcessIdentity.read(state / "node" / "pids" / f"{pod['metadata']['uid']}-server.json")


def test_pods_die_with_a_killed_node_and_are_run_again(own_state: Path, tmp_path: Path) -> None:
    image = make_bundle(tmp_path / "bundles", "stand-in")
    start(own_state, tmp_path)
    live = LiveSandbox(own_state, image)
    live.create_pod("lasting")
    pod = live.until_ready("lasting")
    process, node = pod_process(own_state, pod), processes(own_state)["node"]
    assert process
    assert node
    node.signal(signal.SIGKILL)
    until(lambda: not process.alive(), "the pod's process is gone")
    start(own_state, tmp_path)
    until(
        lambda: live.container("lasting")["restartCount"] == 1 and live.container("lasting")["ready"], "it runs again"
    )
    again = live.pod("lasting")
    assert again
    assert again["status"]["podIP"] == pod["status"]["podIP"]
    assert again["status"]["containerStatuses"][0]["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"
    live.close()


def test_down_ends_pods_and_the_next_up_runs_them_again(own_state: Path, tmp_path: Path) -> None:
    image = make_bundle(tmp_path / "bundles", "stand-in")
    start(own_state, tmp_path)
    live = LiveSandbox(own_state, image)
    live.create_pod("lasting", env={"END_SECONDS": "0.3"})
    process = pod_process(own_state, live.until_ready("lasting"))
    assert process
    assert sandbox_command("down", own_state).returncode == 0
    assert not process.alive()
    start(own_state, tmp_path)
    live.until_ready("lasting")
    live.close()

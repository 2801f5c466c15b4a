"""`python -m sandbox up | down | status`, each test with a sandbox of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest
from live_sandbox import LiveSandbox, make_bundle, sandbox_command, until, up_options

from sandbox.processes import ProcessIdentity

pytestmark = pytest.mark.slow

NAMES = ("apiserver", "controllers", "node", "gateway")


def processes(state: Path) -> dict[str, ProcessIdentity | None]:
    return {name: ProcessIdentity.read(state / "pids" / f"{name}.json") for name in NAMES}


def start(state: Path, bundles: Path) -> str:
    done = sandbox_command("up", state, *up_options(bundles))
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSandbox]:
    """A sandbox with one pod, `lasting`; each test leaves it running."""
    state, bundles = tmp_path_factory.mktemp("lasting"), tmp_path_factory.mktemp("bundles")
    image = make_bundle(bundles, "stand-in")
    start(state, bundles)
    live = LiveSandbox(state, image)
    live.create_pod("lasting", env={"END_SECONDS": "0.3"})
    live.until_ready("lasting")
    yield live
    live.close()
    assert sandbox_command("down", state).returncode == 0


def _processor_seconds(process: ProcessIdentity | None) -> float:
    assert process
    times = psutil.Process(process.pid).cpu_times()
    return float(times.user + times.system)


def pod_process(live: LiveSandbox) -> ProcessIdentity:
    pod = live.until_ready("lasting")
    identity = ProcessIdentity.read(live.state / "node" / "pids" / f"{pod['metadata']['uid']}-server.json")
    assert identity
    return identity


def test_up_is_quick_and_down_leaves_nothing(own_state: Path, tmp_path: Path) -> None:
    used_before = os.times()
    start(own_state, tmp_path)
    used_after = os.times()
    started = processes(own_state)
    envoy = ProcessIdentity.read(own_state / "gateway" / "envoy.pid")
    # Processor time, not time: what it takes on a machine that does nothing else.
    own_seconds = sum(used_after[2:4]) - sum(used_before[2:4])
    assert own_seconds + sum(_processor_seconds(process) for process in (*started.values(), envoy)) < 5
    described = json.loads((own_state / "sandbox.json").read_text())
    assert httpx.get(f"{described['node_url']}/healthz").text == "ok"
    assert sandbox_command("down", own_state).returncode == 0
    for process in (*started.values(), envoy):
        assert process
        assert not process.alive()
    assert sandbox_command("status", own_state).returncode == 1


def test_a_second_up_leaves_what_runs(lasting: LiveSandbox) -> None:
    before = processes(lasting.state)
    again = start(lasting.state, Path(lasting.described["bundles"]))
    assert again.count("was running") == len(NAMES)
    assert "VirtualService ai-inference/arithmetic exists, left as it is" in again
    assert processes(lasting.state) == before


def test_other_settings_are_refused_while_it_runs(lasting: LiveSandbox, tmp_path: Path) -> None:
    done = sandbox_command("up", lasting.state, *up_options(tmp_path))
    assert done.returncode == 1
    assert "runs with other settings (bundles" in done.stderr
    assert all(process and process.alive() for process in processes(lasting.state).values())


def test_a_killed_node_takes_its_pods_along_and_the_next_up_runs_both_again(lasting: LiveSandbox) -> None:
    before, address = processes(lasting.state), lasting.until_ready("lasting")["status"]["podIP"]
    process, node = pod_process(lasting), before["node"]
    assert node
    node.signal(signal.SIGKILL)
    until(lambda: not process.alive(), "the pod's process is gone")
    assert sandbox_command("status", lasting.state).returncode == 1
    said = start(lasting.state, Path(lasting.described["bundles"]))
    assert "node is not running any more: starting it again" in said
    after = processes(lasting.state)
    assert {name for name in NAMES if after[name] != before[name]} == {"node"}
    until(lambda: lasting.container("lasting")["restartCount"] == 1, "the pod is restarted")
    assert lasting.until_ready("lasting")["status"]["podIP"] == address
    assert lasting.container("lasting")["lastState"]["terminated"]["reason"] == "ContainerStatusUnknown"


def test_the_cluster_outlasts_its_api_server_and_its_gateway(lasting: LiveSandbox) -> None:
    before = lasting.until_ready("lasting")
    envoy = ProcessIdentity.read(lasting.state / "gateway" / "envoy.pid")
    for name in ("apiserver", "gateway"):
        process = processes(lasting.state)[name]
        assert process
        process.signal(signal.SIGKILL)
    assert envoy
    until(lambda: not envoy.alive(), "Envoy ends with the gateway")
    start(lasting.state, Path(lasting.described["bundles"]))
    after = lasting.pod("lasting")
    assert after
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"]
    lasting.subsets("there")
    lasting.create_pod("there", labels={"app": "arithmetic", "version": "there"})
    lasting.until_ready("there")
    lasting.weights(there=100)
    lasting.until_served("there")


def test_down_lets_streams_end(lasting: LiveSandbox) -> None:
    def stream() -> list[str]:
        with lasting.gateway.stream("GET", "/stream") as answer:
            return list(answer.iter_lines())

    with ThreadPoolExecutor(1) as pool:
        lines = pool.submit(stream)
        until(lambda: lasting.metric("envoy_cluster_upstream_rq_active"), "the stream runs")
        assert sandbox_command("down", lasting.state).returncode == 0
        assert len(lines.result()) == 20
    start(lasting.state, Path(lasting.described["bundles"]))


def test_down_ends_pods_and_the_next_up_runs_them_again(lasting: LiveSandbox) -> None:
    process, ports = pod_process(lasting), lasting.described["ports"]
    assert sandbox_command("down", lasting.state).returncode == 0
    assert not process.alive()
    start(lasting.state, Path(lasting.described["bundles"]))
    assert json.loads((lasting.state / "sandbox.json").read_text())["ports"] == ports
    assert pod_process(lasting) != process


@pytest.mark.parametrize("option", ["--api-port", "--gateway-port", "--metrics-port", "--node-port"])
def test_a_taken_port_is_named_and_nothing_is_left(own_state: Path, tmp_path: Path, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ports = {name: "0" for name in ("--api-port", "--gateway-port", "--metrics-port", "--node-port")}
        arguments = [text for pair in {**ports, option: str(port)}.items() for text in pair]
        done = sandbox_command("up", own_state, "--runtime-path", str(tmp_path), *arguments)
    assert done.returncode == 1
    assert f"port {port}" in done.stderr
    assert option in done.stderr
    assert "Traceback" not in done.stderr
    assert set(processes(own_state).values()) == {None}


def test_a_component_that_does_not_start_is_shown_and_the_others_are_stopped(own_state: Path, tmp_path: Path) -> None:
    own_state.mkdir()
    (own_state / "cluster.sqlite").write_text("not a database, but longer than the header of one would be " * 4)
    done = sandbox_command("up", own_state, *up_options(tmp_path))
    assert done.returncode == 1
    assert "apiserver ended while starting" in done.stderr
    assert "Traceback" not in done.stderr
    assert set(processes(own_state).values()) == {None}


def test_a_missing_runtime_is_named(own_state: Path, tmp_path: Path) -> None:
    done = sandbox_command("up", own_state, "--runtime-path", str(tmp_path / "nowhere"))
    assert done.returncode == 1
    assert f"{tmp_path / 'nowhere'} does not exist" in done.stderr


def test_a_stale_pid_file_signals_nobody(own_state: Path) -> None:
    """The pid belongs to another process by now: this test's."""
    own = ProcessIdentity.of(os.getpid())
    assert own
    ProcessIdentity(own.pid, own.start_ticks - 1).write(own_state / "pids" / "node.json")
    assert sandbox_command("down", own_state).returncode == 0
    assert own.alive()
    assert not (own_state / "pids" / "node.json").exists()

"""Pods as containers of a real Docker Engine, from images of a real registry."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import docker
import httpx
import pytest
from engine_images import push_stand_in
from live_sandbox import LiveSandbox, container_options, sandbox_command, until

from sandbox.engine.description import Engine
from sandbox.node import engine
from sandbox.node.containers import ContainerRuntime
from sandbox.node.errors import ImageError, StartError
from sandbox.node.launch import Launch, Mount, Volume
from sandbox.node.runtime import Exit, RunningContainer
from sandbox.processes import ProcessIdentity

pytestmark = pytest.mark.slow

USER = 10001
ABSENT = "0" * 64


@pytest.fixture(scope="module")
def client(docker_engine: Engine) -> Iterator[Any]:
    """Of the engine itself, to look from outside."""
    client = docker.APIClient(base_url=docker_engine.docker_host)
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(client: Any, docker_engine: Engine) -> str:
    return push_stand_in(client, docker_engine.base_image, f"{docker_engine.registry}/sandbox-tests/stand-in")


@pytest.fixture(scope="module")
def contained(docker_engine: Engine, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveSandbox]:
    """A sandbox whose pods are containers."""
    state, env = tmp_path_factory.mktemp("contained"), {"DOCKER_HOST": docker_engine.docker_host}
    started = sandbox_command("up", state, *container_options(), env=env)
    assert started.returncode == 0, started.stderr
    live = LiveSandbox(state, image)
    yield live
    live.close()
    assert sandbox_command("down", state).returncode == 0


def containers_of(client: Any, state: Path) -> list[dict[str, Any]]:
    return list(client.containers(filters={"label": f"{engine.NODE_LABEL}={state / 'node'}"}))


def waiting(sandbox: LiveSandbox, name: str) -> dict[str, Any]:
    return dict((sandbox.container(name).get("state") or {}).get("waiting") or {})


def answer(sandbox: LiveSandbox, name: str, path: str) -> Any:
    address = sandbox.until_ready(name)["status"]["podIP"]
    return sandbox.api.get(f"http://{address}:8000{path}").json()


def delete(sandbox: LiveSandbox, name: str) -> float:
    """Seconds until the pod is gone."""
    began = time.monotonic()
    sandbox.delete_pod(name)
    until(lambda: sandbox.pod(name) is None, f"{name} is removed")
    return time.monotonic() - began


# --- a pod's life ----------------------------------------------------------------------------------------------------


def test_a_pod_becomes_ready_with_its_own_and_its_images_environment(contained: LiveSandbox) -> None:
    contained.create_pod("plain", env={"OWN": "mine"})
    env = answer(contained, "plain", "/")["env"]
    assert (env["OWN"], env["BUNDLE"], env["PORT"], env["HOSTNAME"]) == ("mine", "stand-in", "8000", "plain")
    node = contained.api.get("/api/v1/nodes/sandbox").json()["status"]["nodeInfo"]
    assert node["containerRuntimeVersion"].startswith("docker://")
    assert contained.log("plain") == "version 0 serves\n"
    delete(contained, "plain")


def test_a_pod_has_no_more_rights_than_its_template_gives(contained: LiveSandbox, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("1 2 3")
    tmp_path.chmod(0o777)
    mounts = [{"name": "tmp", "mountPath": "/tmp"}, {"name": "cache", "mountPath": "/models", "readOnly": True}]
    rights = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    contained.create_pod(
        "confined",
        env={"LOOK": "/srv /etc /tmp /models"},
        container={"securityContext": rights, "volumeMounts": mounts},
        securityContext={"runAsUser": 4242, "runAsGroup": 4343, "fsGroup": 4444, "runAsNonRoot": True},
        volumes=[{"name": "tmp", "emptyDir": {}}, {"name": "cache", "hostPath": {"path": str(tmp_path)}}],
    )
    seen = answer(contained, "confined", "/inside")
    assert (seen["uid"], seen["gid"], seen["groups"]) == (4242, 4343, [4343, 4444])
    assert (int(seen["CapEff"], 16), seen["NoNewPrivs"], seen["writable"]) == (0, "1", ["/tmp"])
    delete(contained, "confined")


def test_a_pod_that_exceeds_its_memory_is_ended_and_restarted(contained: LiveSandbox) -> None:
    contained.create_pod("greedy", container={"resources": {"limits": {"memory": "64Mi"}}})
    address = contained.until_ready("greedy")["status"]["podIP"]
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"http://{address}:8000/eat")
    until(lambda: contained.container("greedy")["restartCount"] == 1, "it is restarted")
    last = contained.container("greedy")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")
    contained.until_ready("greedy")
    delete(contained, "greedy")


def test_a_crashing_container_is_restarted_with_back_off(contained: LiveSandbox) -> None:
    contained.create_pod("crashing", env={"EXIT_CODE": "3"})
    until(lambda: waiting(contained, "crashing").get("reason") == "CrashLoopBackOff", "the loop is backed off")
    until(lambda: contained.container("crashing")["restartCount"] >= 2, "it is restarted")
    last = contained.container("crashing")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (3, "Error")
    assert contained.log("crashing", previous="true") == "version 0 serves\n"
    delete(contained, "crashing")


def test_an_entrypoint_that_is_not_there_is_named(contained: LiveSandbox) -> None:
    contained.create_pod("misspelt", container={"command": ["nowhere"]})
    until(lambda: contained.container("misspelt").get("lastState"), "it has failed")
    last = contained.container("misspelt")["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (128, "StartError")
    assert 'exec: "nowhere": executable file not found' in last["message"]
    delete(contained, "misspelt")


def test_a_pod_that_leaves_ends_its_work_first(contained: LiveSandbox, client: Any) -> None:
    contained.create_pod("leaving", env={"END_SECONDS": "1"})
    contained.until_ready("leaving")
    contained.delete_pod("leaving")
    until(lambda: "asked to end" in contained.log("leaving"), "it was told")
    assert not contained.container("leaving")["ready"]
    assert len(containers_of(client, contained.state)) == 1
    until(lambda: contained.pod("leaving") is None, "it is removed")
    assert containers_of(client, contained.state) == []


def test_what_does_not_end_in_its_grace_period_is_killed(contained: LiveSandbox, client: Any) -> None:
    contained.create_pod("stubborn", env={"STUBBORN": "1"}, terminationGracePeriodSeconds=1)
    contained.until_ready("stubborn")
    assert 0.9 < delete(contained, "stubborn") < 5
    assert containers_of(client, contained.state) == []


def test_an_image_that_the_registry_does_not_have_is_named(contained: LiveSandbox, docker_engine: Engine) -> None:
    image = f"{docker_engine.registry}/sandbox-tests/stand-in@sha256:{ABSENT}"
    contained.create_pod("absent", image=image)
    until(lambda: waiting(contained, "absent").get("reason") == "ImagePullBackOff", "the pull is backed off")
    said = waiting(contained, "absent")["message"]
    assert image in said
    assert "manifest unknown" in said
    delete(contained, "absent")


def test_an_image_of_root_is_refused_where_the_pod_rules_root_out(
    contained: LiveSandbox, client: Any, docker_engine: Engine
) -> None:
    image = push_stand_in(client, docker_engine.base_image, f"{docker_engine.registry}/sandbox-tests/root", user=0)
    contained.create_pod("root", image=image, securityContext={"runAsNonRoot": True})
    until(lambda: waiting(contained, "root").get("reason") == "CreateContainerConfigError", "it is refused")
    assert "image will run as root" in waiting(contained, "root")["message"]
    delete(contained, "root")


# --- the node's end and its next start -------------------------------------------------------------------------------


def test_a_node_that_was_killed_leaves_containers_that_its_next_start_replaces(
    contained: LiveSandbox, client: Any, docker_engine: Engine
) -> None:
    contained.create_pod("lasting")
    contained.until_ready("lasting")
    [left] = containers_of(client, contained.state)
    kill_node(contained.state)
    assert containers_of(client, contained.state) == [left]
    env = {"DOCKER_HOST": docker_engine.docker_host}
    assert sandbox_command("up", contained.state, *container_options(), env=env).returncode == 0
    until(lambda: contained.container("lasting")["restartCount"] == 1, "it is restarted")
    contained.until_ready("lasting")
    [now] = containers_of(client, contained.state)
    assert now["Id"] != left["Id"]
    delete(contained, "lasting")


@pytest.mark.parametrize("killed", [False, True], ids=["a node that stops", "a node that was killed"])
def test_down_leaves_no_container(
    docker_engine: Engine, client: Any, image: str, own_state: Path, killed: bool
) -> None:
    env = {"SANDBOX_RUNTIME": "docker", "DOCKER_HOST": docker_engine.docker_host}
    assert sandbox_command("up", own_state, *container_options()[2:], env=env).returncode == 0
    sandbox = LiveSandbox(own_state, image)
    sandbox.create_pod("lasting")
    sandbox.until_ready("lasting")
    sandbox.close()
    if killed:
        kill_node(own_state)
    assert len(containers_of(client, own_state)) == 1
    assert ("1 that the node had left, removed" in sandbox_command("down", own_state).stdout) == killed
    assert containers_of(client, own_state) == []


def kill_node(state: Path) -> None:
    node = ProcessIdentity.read(state / "pids" / "node.json")
    assert node
    node.signal(signal.SIGKILL)
    until(lambda: not node.alive(), "the node is gone")


# --- the runtime alone -----------------------------------------------------------------------------------------------


@pytest.fixture
async def runtime(docker_engine: Engine, tmp_path: Path) -> AsyncIterator[ContainerRuntime]:
    with contextlib.closing(engine.connect(docker_engine.docker_host)) as client:
        runtime = ContainerRuntime(client, tmp_path)
        yield runtime
        await runtime.remove_leftovers()


async def started(runtime: ContainerRuntime, image: str, log: Path, *script: str) -> RunningContainer:
    await runtime.pull(image)
    return await runtime.start(log.name, Launch("server", image, ("sh", "-c", *script), (), {}), log)


async def test_an_image_that_is_there_is_not_pulled_again(
    runtime: ContainerRuntime, client: Any, docker_engine: Engine
) -> None:
    repository = f"{docker_engine.registry}/sandbox-tests/{secrets.token_hex(4)}"
    image = push_stand_in(client, docker_engine.base_image, repository)
    forget(image)
    await runtime.pull(image)
    client.remove_image(f"{repository}:test")
    with pytest.raises(ImageError, match="manifest unknown"):
        await runtime.pull(image)


def forget(image: str) -> None:
    """Delete an image in its registry."""
    repository, digest = image.split("@")
    registry, name = repository.split("/", 1)
    assert httpx.delete(f"http://{registry}/v2/{name}/manifests/{digest}").status_code == 202


async def test_an_image_is_pulled_by_its_digest(runtime: ContainerRuntime, client: Any, docker_engine: Engine) -> None:
    repository = f"{docker_engine.registry}/sandbox-tests/{secrets.token_hex(4)}"
    image = push_stand_in(client, docker_engine.base_image, repository)
    client.remove_image(f"{repository}:test")
    with pytest.raises(docker.errors.ImageNotFound):
        client.inspect_image(image)
    await runtime.pull(image)
    assert image in client.inspect_image(image)["RepoDigests"]


async def test_an_image_without_a_digest_is_refused(runtime: ContainerRuntime) -> None:
    with pytest.raises(ImageError, match=r"repository/model:latest.*by digest"):
        await runtime.pull("repository/model:latest")


async def test_the_last_words_are_in_the_log(runtime: ContainerRuntime, image: str, tmp_path: Path) -> None:
    lines = "echo oops >&2; for i in $(seq 2000); do echo line $i; done; printf end; exit 7"
    running = await started(runtime, image, tmp_path / "log", lines)
    assert await running.wait() == Exit(7, "Error")
    said = [line.split(" ", 3)[3] for line in (tmp_path / "log").read_text().splitlines()]
    # The streams keep their own orders, not one with each other.
    said.remove("oops")
    assert said == [*(f"line {number}" for number in range(1, 2001)), "end"]


async def test_an_entrypoint_that_cannot_be_run_leaves_no_container(
    runtime: ContainerRuntime, client: Any, image: str, tmp_path: Path
) -> None:
    launch = Launch("server", image, ("/etc/passwd",), (), {})
    with pytest.raises(StartError, match="permission denied"):
        await runtime.start("refused", launch, tmp_path / "log")
    assert client.containers(all=True, filters={"name": "refused"}) == []


async def test_a_directory_that_vanished_is_named(runtime: ContainerRuntime, image: str, tmp_path: Path) -> None:
    mounts = {"/models": Mount(Volume(tmp_path / "gone"))}
    with pytest.raises(StartError, match=f"{tmp_path}/gone"):
        await runtime.start("mounted", Launch("server", image, (), (), {}, mounts), tmp_path / "log")


async def test_a_start_that_is_given_up_leaves_no_container(
    runtime: ContainerRuntime, client: Any, image: str, tmp_path: Path
) -> None:
    starting = asyncio.create_task(started(runtime, image, tmp_path / "given-up", "sleep 60"))
    await until_created(client, "given-up")
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert client.containers(all=True, filters={"name": "given-up"}) == []


async def until_created(client: Any, name: str) -> None:
    deadline = time.monotonic() + 10
    while not client.containers(all=True, filters={"name": name}):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.001)


async def test_only_the_nodes_own_containers_are_its_leftovers(
    runtime: ContainerRuntime, client: Any, image: str, tmp_path: Path
) -> None:
    other = ContainerRuntime(client, tmp_path / "other")
    running = await started(other, image, tmp_path / "others", "sleep 60")
    await runtime.remove_leftovers()
    assert len(client.containers(filters={"name": "others"})) == 1
    await other.remove_leftovers()
    assert client.containers(filters={"name": "others"}) == []
    assert (await running.wait()).code == 137


# --- no engine -------------------------------------------------------------------------------------------------------


def test_a_missing_engine_is_named_and_nothing_is_started(own_state: Path) -> None:
    env = {"SANDBOX_RUNTIME": "docker", "DOCKER_HOST": f"unix://{own_state}/nowhere.sock"}
    done = sandbox_command("up", own_state, "--ephemeral-ports", env=env)
    assert done.returncode == 1
    assert f"no Docker Engine answers at unix://{own_state}/nowhere.sock" in done.stderr
    assert "--runtime process" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (own_state / "sandbox.json").exists()


def test_an_unknown_runtime_is_refused(own_state: Path) -> None:
    done = sandbox_command("up", own_state, "--ephemeral-ports", env={"SANDBOX_RUNTIME": "podman"})
    assert done.returncode == 1
    assert "SANDBOX_RUNTIME is process or docker" in done.stderr

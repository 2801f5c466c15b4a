"""What a container may do, from its pod's description to what an engine is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from live_sandbox import PROJECT

from sandbox.node.confinement import Confinement, confinement_of, quantity, user_of
from sandbox.node.creation import container_config
from sandbox.node.errors import ContainerConfigError
from sandbox.node.launch import Launch, Mount, Volume, launch_of
from sandbox.node.volumes import make_volume


def launch(**fields: Any) -> Launch:
    return Launch(**{"name": "server", "image": "image", "command": (), "args": (), "env": {}} | fields)


def test_the_workloads_template_is_confined_as_it_says() -> None:
    pod = yaml.safe_load((PROJECT / "manifests" / "base" / "workload.yaml").read_text())["spec"]["template"]
    pod["metadata"] |= {"name": "model-0", "namespace": "ai", "uid": "u"}
    volume = Volume(Path("/node/tmp"), for_everybody=True)
    config = container_config(launch_of(pod, pod["spec"]["containers"][0], "127.64.0.1", {}, {"tmp": volume}), "")
    host = config["HostConfig"]
    assert (config["User"], host["GroupAdd"], host["ReadonlyRootfs"]) == ("10001:10001", ["10001"], True)
    assert (host["CapDrop"], host["CapAdd"], host["SecurityOpt"]) == (["ALL"], [], ["no-new-privileges"])
    assert host["Memory"] == host["MemorySwap"] == 1024**3
    assert host["Mounts"] == [{"Type": "bind", "Source": "/node/tmp", "Target": "/tmp", "ReadOnly": False}]
    assert "HOST=127.64.0.1" in config["Env"]


def test_the_containers_own_security_context_wins_over_its_pods() -> None:
    spec = {"securityContext": {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4]}}
    confinement = confinement_of({"spec": spec}, {"securityContext": {"runAsUser": 5}})
    assert (confinement.user, confinement.group, confinement.more_groups) == (5, 2, (3, 4))


def test_a_pod_that_asks_for_nothing_is_left_to_its_image() -> None:
    confinement = confinement_of({"spec": {}}, {})
    assert confinement == Confinement()
    config = container_config(launch(confinement=confinement), "app:staff")
    assert (config["User"], config["HostConfig"]["SecurityOpt"], config["HostConfig"]["Memory"]) == ("app:staff", [], 0)


def test_a_command_replaces_the_images_entrypoint_and_arguments_its_command() -> None:
    config = container_config(launch(command=("sh", "-c"), args=("true",)), "")
    assert (config["Entrypoint"], config["Cmd"]) == (["sh", "-c"], ["true"])
    config = container_config(launch(), "")
    assert (config["Entrypoint"], config["Cmd"]) == (None, None)


@pytest.mark.parametrize(
    ("confinement", "image_user", "user"),
    [
        (Confinement(), "", ""),
        (Confinement(user=7), "app:staff", "7"),
        (Confinement(user=7, group=8), "app", "7:8"),
        (Confinement(group=8), "app", "app:8"),
        (Confinement(group=8), "", "0:8"),
        (Confinement(must_not_be_root=True), "10001", "10001"),
    ],
)
def test_the_user_is_the_pods_or_else_the_images(confinement: Confinement, image_user: str, user: str) -> None:
    assert user_of(confinement, image_user) == user


@pytest.mark.parametrize("image_user", ["", "0", "root", "0:0"])
def test_an_image_of_root_is_refused_where_root_is_ruled_out(image_user: str) -> None:
    with pytest.raises(ContainerConfigError, match="image will run as root"):
        user_of(Confinement(must_not_be_root=True), image_user)


def test_a_name_is_no_proof_of_not_being_root() -> None:
    with pytest.raises(ContainerConfigError, match=r"non-numeric user \(app\)"):
        user_of(Confinement(must_not_be_root=True), "app")


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("1Gi", 1024**3), ("1.5Mi", 1572864), ("2G", 2 * 10**9), ("1e3", 1000), ("123", 123), ("1500m", 2)],
)
def test_quantities_are_read_as_kubernetes_writes_them(text: str, bytes_: int) -> None:
    assert quantity(text) == bytes_


@pytest.mark.parametrize("text", ["", "Gi", "1.2.3", "1Xi", "-1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ContainerConfigError, match="is not a quantity"):
        quantity(text)


def test_a_read_only_mount_stays_one() -> None:
    mounts = {"/models": Mount(Volume(Path("/cache")), read_only=True)}
    [mount] = container_config(launch(mounts=mounts), "")["HostConfig"]["Mounts"]
    assert mount == {"Type": "bind", "Source": "/cache", "Target": "/models", "ReadOnly": True}


def test_a_directory_of_the_machine_is_made_only_if_the_pod_says_so(tmp_path: Path) -> None:
    path = tmp_path / "models"
    with pytest.raises(ContainerConfigError, match=f"{path} is not a directory"):
        make_volume({"name": "cache", "hostPath": {"path": str(path), "type": "Directory"}}, tmp_path / "own", {})
    made = make_volume({"name": "cache", "hostPath": {"path": str(path), "type": "DirectoryOrCreate"}}, tmp_path, {})
    assert made == Volume(path)
    assert path.is_dir()


def test_a_volume_that_the_node_cannot_give_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ContainerConfigError, match="volume v: only emptyDir, configMap and hostPath"):
        make_volume({"name": "v", "persistentVolumeClaim": {"claimName": "c"}}, tmp_path, {})
    with pytest.raises(ContainerConfigError, match="type Socket is not supported"):
        make_volume({"name": "v", "hostPath": {"path": "/run/x", "type": "Socket"}}, tmp_path, {})

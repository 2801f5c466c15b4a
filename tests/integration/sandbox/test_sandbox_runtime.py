"""Containers as processes: where the paths of a pod and of this machine meet."""

from __future__ import annotations

import json
from pathlib import Path

from sandbox.node.launch import Launch, Mount, Volume
from sandbox.node.processes import ProcessRuntime
from sandbox.node.runtime import Exit

HEX = "a" * 64


def bundle(tmp_path: Path, *entrypoint: str) -> Path:
    directory = tmp_path / "bundles" / HEX
    directory.mkdir(parents=True)
    (directory / "bundle.json").write_text(json.dumps({"entrypoint": entrypoint, "env": {}, "labels": {}}))
    return directory.parent


def tool(tmp_path: Path, script: str) -> Path:
    path = tmp_path / "bin" / "tool"
    path.parent.mkdir()
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path.parent


async def run(tmp_path: Path, runtime_path: Path, env: dict[str, str]) -> tuple[Exit, str]:
    """End and output of a container whose /tmp is a volume."""
    (tmp_path / "volume").mkdir()
    runtime = ProcessRuntime(bundle(tmp_path, "tool"), runtime_path, tmp_path / "pids")
    mounts = {str(tmp_path.parent): Mount(Volume(tmp_path / "volume"))}
    launch = Launch("server", f"model@sha256:{HEX}", (), (), env, mounts)
    started = await runtime.start("pod", launch, tmp_path / "log")
    return await started.wait(), (tmp_path / "log").read_text()


async def test_this_machines_own_paths_are_no_paths_of_the_container(tmp_path: Path) -> None:
    runtime_path = tool(tmp_path, "echo ran")
    ended, output = await run(tmp_path, runtime_path, {})
    assert ended == Exit(0, "Completed")
    assert "ran" in output


async def test_paths_that_the_pod_names_lie_in_its_volumes(tmp_path: Path) -> None:
    runtime_path = tool(tmp_path, 'echo "$CACHE"')
    ended, output = await run(tmp_path, runtime_path, {"CACHE": f"{tmp_path.parent}/cache"})
    assert ended == Exit(0, "Completed")
    assert f"{tmp_path / 'volume'}/cache" in output

"""Bundles: whole or not there at all, found by version, the same content under the same digest."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sluice.errors import BadInput, Refused
from sluice.images.bundle import BundleImages
from sluice.ports import ImageSpec
from tests.unit.images.build_inputs import image_spec


@pytest.fixture
def spec(tmp_path: Path) -> ImageSpec:
    return image_spec(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


def silent(_: str) -> None: ...


def bundle(store: Path, reference: str) -> Path:
    return store / reference.partition("@sha256:")[2]


def names(store: Path) -> set[str]:
    """What is in the store besides its index and its lock."""
    return {path.name for path in store.iterdir()} - {"versions", ".lock"}


async def test_a_bundle_holds_the_server_the_model_and_how_to_start_it(store: Path, spec: ImageSpec) -> None:
    reference = await BundleImages(store).build(spec, silent)
    built = bundle(store, reference)
    assert {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()} == {
        "bundle.json",
        "app/serving/__init__.py",
        "app/serving/__main__.py",
        "app/serving/api/routes.py",
        "model/config.json",
        "model/model.safetensors",
    }
    assert json.loads((built / "bundle.json").read_text()) == {
        "entrypoint": ["python", "-m", "serving"],
        "env": {"PYTHONPATH": "app", "MODEL_DIR": "model"},
        "labels": {"version": "a1b2c3", "revision": "r2", "revision_digest": "sha256:feed"},
    }


async def test_an_image_is_found_by_its_version(store: Path, spec: ImageSpec) -> None:
    images = BundleImages(store)
    assert await images.find(spec.repository, spec.version) is None
    reference = await images.build(spec, silent)
    assert reference.startswith("registry.example.com/arithmetic@sha256:")
    assert await BundleImages(store).find(spec.repository, spec.version) == reference
    assert await images.find(spec.repository, "other") is None


async def test_an_image_whose_bundle_was_removed_is_not_found(store: Path, spec: ImageSpec) -> None:
    images = BundleImages(store)
    reference = await images.build(spec, silent)
    bundle(store, reference).rename(store.parent / "away")
    assert await images.find(spec.repository, spec.version) is None
    assert await images.build(spec, silent) == reference


async def test_building_what_exists_does_nothing(store: Path, spec: ImageSpec) -> None:
    images = BundleImages(store)
    reference = await images.build(spec, silent)
    said: list[str] = []
    assert await images.build(spec, said.append) == reference
    assert said == [f"{reference} exists, nothing to build"]


async def test_the_same_content_has_the_same_digest_in_any_store(store: Path, spec: ImageSpec, tmp_path: Path) -> None:
    first = await BundleImages(store).build(spec, silent)
    assert await BundleImages(tmp_path / "other").build(spec, silent) == first
    (spec.context / "serving" / "__main__.py").write_text("# changed\n")
    assert await BundleImages(tmp_path / "third").build(spec, silent) != first


async def test_weights_are_not_copied_where_they_can_be_linked(store: Path, spec: ImageSpec) -> None:
    built = bundle(store, await BundleImages(store).build(spec, silent))
    weights = spec.revision.location / "model.safetensors"
    assert (built / "model" / "model.safetensors").samefile(weights)
    assert not (built / "app" / "serving" / "__main__.py").samefile(spec.context / "serving" / "__main__.py")


async def test_a_linked_weight_file_is_bundled_as_the_file_itself(store: Path, spec: ImageSpec, tmp_path: Path) -> None:
    weights = spec.revision.location / "model.safetensors"
    blob = weights.rename(tmp_path / "blob")
    weights.symlink_to(blob)
    built = bundle(store, await BundleImages(store).build(spec, silent))
    assert not (built / "model" / "model.safetensors").is_symlink()


async def test_progress_says_what_is_done(store: Path, spec: ImageSpec) -> None:
    said: list[str] = []
    reference = await BundleImages(store).build(spec, said.append)
    assert said == [
        "copying the server, 3 files",
        "linking revision r2, 2 files, 0.0 MB",
        f"built sha256:{bundle(store, reference).name}",
    ]


async def test_two_builds_of_a_version_at_once_make_one_bundle(store: Path, spec: ImageSpec) -> None:
    references = await asyncio.gather(*(BundleImages(store).build(spec, silent) for _ in range(4)))
    assert len(set(references)) == 1
    assert names(store) == {bundle(store, references[0]).name}


async def test_builds_of_two_versions_at_once_do_not_disturb_each_other(store: Path, spec: ImageSpec) -> None:
    specs = [replace(spec, version=f"v{number}") for number in range(4)]
    references = await asyncio.gather(*(BundleImages(store).build(spec, silent) for spec in specs))
    assert names(store) == {bundle(store, reference).name for reference in references}
    assert len(names(store)) == 4


async def test_a_failed_build_leaves_nothing_behind(store: Path, spec: ImageSpec) -> None:
    (spec.context / "Dockerfile").unlink()
    with pytest.raises(BadInput, match="no build context"):
        await BundleImages(store).build(spec, silent)
    assert names(store) == set()


async def test_a_store_that_cannot_be_written_is_named(spec: ImageSpec) -> None:
    file = spec.context / "Dockerfile"
    with pytest.raises(Refused, match=r"version a1b2c3 cannot be written to .*Dockerfile/bundles: .*make room"):
        await BundleImages(file / "bundles").build(spec, silent)


BUILD_THAT_STOPS = """
import asyncio, sys, time
from pathlib import Path
from sluice.images.bundle import BundleImages
from sluice.ports import ImageSpec, Revision

def stop(line: str) -> None:
    print(line, flush=True)
    if line.startswith("linking"):
        time.sleep(60)

store, context, revision = map(Path, sys.argv[1:])
spec = ImageSpec("registry.example.com/arithmetic", "a1b2c3", context, Revision("r2", "sha256:feed", revision))
asyncio.run(BundleImages(store).build(spec, stop))
"""


async def build_that_stops(store: Path, spec: ImageSpec) -> asyncio.subprocess.Process:
    """A process in the middle of building, with the server copied and the model still missing."""
    arguments = [str(path) for path in (store, spec.context, spec.revision.location)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", BUILD_THAT_STOPS, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    while not (await process.stdout.readline()).startswith(b"linking"):
        assert not process.stdout.at_eof()
    return process


async def test_a_killed_build_leaves_a_draft_that_the_next_one_removes(store: Path, spec: ImageSpec) -> None:
    process = await build_that_stops(store, spec)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    (draft,) = names(store)
    assert await BundleImages(store).find(spec.repository, spec.version) is None

    said: list[str] = []
    reference = await BundleImages(store).build(spec, said.append)
    assert said[0] == f"removing {draft}, left by a build that was killed"
    assert names(store) == {bundle(store, reference).name}


async def test_a_build_waits_for_the_one_at_work_and_does_not_take_its_draft(store: Path, spec: ImageSpec) -> None:
    process = await build_that_stops(store, spec)
    said: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def say(line: str) -> None:
        loop.call_soon_threadsafe(said.put_nowait, line)

    building = asyncio.create_task(BundleImages(store).build(spec, say))
    assert await said.get() == "another build is at work, waiting for its end"
    assert len(names(store)) == 1
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    reference = await building
    assert names(store) == {bundle(store, reference).name}

"""Revisions in the cache: whole or not at all, readable by everybody, and gone only when nobody wants them."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sluice.errors import Refused
from sluice.images.bundle import BundleImages
from sluice.images.cache import ModelCache, unused
from sluice.images.content import digest_of
from sluice.images.context import model_files
from sluice.ports import CachedRevision, Revision, cached_at
from tests.unit.images.build_inputs import image_spec

MODEL = "arithmetic"
MANIFESTS = Path(__file__).resolve().parents[3] / "manifests"
CLAIM = "model-cache"
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
LONG_AGO, SOON = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def cache(folder: Path) -> ModelCache:
    return ModelCache(folder)


def a_revision(directory: Path, weights: str = "weights") -> Revision:
    """As its source would give it: a digest over its files, but for its settings."""
    (directory / "tokens").mkdir(parents=True)
    files = {"config.json": "{}", "model.safetensors": weights, "serving.json": "{}", "tokens/map.json": "[]"}
    for name, text in files.items():
        (directory / name).write_text(text)
    return Revision(directory.name, f"sha256:{digest_of(model_files(directory))}", directory)


def silent(_: str) -> None: ...


def names(folder: Path) -> set[str]:
    """What is in a model's folder besides its lock."""
    return {path.name for path in (folder / MODEL).iterdir()} - {".lock"}


def age(folder: Path, revision: Revision, when: datetime) -> None:
    """As if nobody had wanted it since."""
    os.utime(folder / cached_at(MODEL, revision.digest), (when.timestamp(), when.timestamp()))


async def test_a_revision_lies_where_pods_look_for_it_without_its_settings(
    folder: Path, cache: ModelCache, tmp_path: Path
) -> None:
    revision = a_revision(tmp_path / "r2")
    await cache.put(MODEL, revision, silent)
    lies = folder / MODEL / revision.digest.removeprefix("sha256:")
    assert {path.relative_to(lies).as_posix() for path in lies.rglob("*") if path.is_file()} == {
        "config.json",
        "model.safetensors",
        "tokens/map.json",
    }


async def test_a_commit_of_a_hub_is_a_name_too(folder: Path, cache: ModelCache, tmp_path: Path) -> None:
    commit = "ad9f0ae0864d7fbcd1cd905e3c6c5b069cc8b562"
    await cache.put(MODEL, replace(a_revision(tmp_path / "main"), digest=commit), silent)
    assert names(folder) == {commit}


async def test_what_a_snapshot_links_to_is_copied(folder: Path, cache: ModelCache, tmp_path: Path) -> None:
    revision = a_revision(tmp_path / "r2")
    weights = revision.location / "model.safetensors"
    weights.symlink_to(weights.rename(tmp_path / "blob"))
    await cache.put(MODEL, revision, silent)
    copy = folder / cached_at(MODEL, revision.digest) / "model.safetensors"
    assert (copy.is_symlink(), copy.read_text()) == (False, "weights")


async def test_the_pods_user_may_read_it_whatever_the_workers_umask(
    folder: Path, cache: ModelCache, tmp_path: Path
) -> None:
    revision = a_revision(tmp_path / "r2")
    (revision.location / "config.json").chmod(0o600)
    before = os.umask(0o077)
    try:
        await cache.put(MODEL, revision, silent)
    finally:
        os.umask(before)
    lies = folder / cached_at(MODEL, revision.digest)
    folders = (folder / MODEL, lies, lies / "tokens")
    assert {oct(path.stat().st_mode & 0o777) for path in folders} == {"0o755"}
    assert {oct(path.stat().st_mode & 0o777) for path in lies.rglob("*") if path.is_file()} == {"0o644"}


async def test_putting_what_is_there_copies_nothing_and_notes_that_it_is_wanted(
    folder: Path, cache: ModelCache, tmp_path: Path
) -> None:
    revision = a_revision(tmp_path / "r2")
    await cache.put(MODEL, revision, silent)
    age(folder, revision, LONG_AGO)
    shutil.rmtree(revision.location)
    said: list[str] = []
    await cache.put(MODEL, revision, said.append)
    (cached,) = await cache.revisions(MODEL)
    assert said == ["revision r2 is in the model cache"]
    assert cached.wanted_at > LONG_AGO


async def test_files_that_are_not_those_of_the_digest_are_refused_and_leave_nothing(
    folder: Path, cache: ModelCache, tmp_path: Path
) -> None:
    revision = a_revision(tmp_path / "r2")
    (revision.location / "model.safetensors").write_text("others")
    with pytest.raises(Refused, match=r"revision r2: its copy has the digest .* trigger a new release"):
        await cache.put(MODEL, revision, silent)
    assert names(folder) == set()


def test_a_folder_that_is_missing_is_named_and_not_made(tmp_path: Path) -> None:
    missing = tmp_path / "not-mounted"
    with pytest.raises(
        Refused, match=rf"revision r2 of {MODEL} cannot be copied in the model cache {missing}: .*mount"
    ):
        asyncio.run(ModelCache(missing).put(MODEL, a_revision(tmp_path / "r2"), silent))
    assert not missing.exists()


async def test_workers_that_put_at_once_make_one_copy(folder: Path, tmp_path: Path) -> None:
    revision = a_revision(tmp_path / "r2")
    await asyncio.gather(*(ModelCache(folder).put(MODEL, revision, silent) for _ in range(8)))
    assert names(folder) == {cached_at(MODEL, revision.digest).name}


PUT_THAT_STOPS = """
import asyncio, sys, time
from pathlib import Path
from sluice.images.cache import ModelCache
from sluice.ports import Revision

def stop(line: str) -> None:
    print(line, flush=True)
    if line.startswith("copying"):
        time.sleep(60)

cache, revision, digest = sys.argv[1:]
asyncio.run(ModelCache(Path(cache)).put("arithmetic", Revision("r2", digest, Path(revision)), stop))
"""


async def put_that_stops(folder: Path, revision: Revision) -> asyncio.subprocess.Process:
    """A process in the middle of copying."""
    arguments = (str(folder), str(revision.location), revision.digest)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PUT_THAT_STOPS, *arguments, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    while not (await process.stdout.readline()).startswith(b"copying"):
        assert not process.stdout.at_eof()
    return process


async def test_a_killed_put_leaves_a_draft_that_the_next_removes(
    folder: Path, cache: ModelCache, tmp_path: Path
) -> None:
    revision = a_revision(tmp_path / "r2")
    process = await put_that_stops(folder, revision)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    (draft,) = names(folder)
    assert await cache.revisions(MODEL) == []

    said: list[str] = []
    await cache.put(MODEL, revision, said.append)
    assert said[0] == f"removing {draft}, left by a copy that was killed"
    assert names(folder) == {cached_at(MODEL, revision.digest).name}


async def test_a_put_waits_for_the_one_at_work_and_does_not_take_its_draft(
    folder: Path, cache: ModelCache, tmp_path: Path
) -> None:
    revision = a_revision(tmp_path / "r2")
    process = await put_that_stops(folder, revision)
    said: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    putting = asyncio.create_task(
        cache.put(MODEL, revision, lambda line: loop.call_soon_threadsafe(said.put_nowait, line))
    )
    assert await said.get() == "the model cache is being written, waiting for its end"
    assert len(names(folder)) == 1
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    await putting
    assert names(folder) == {cached_at(MODEL, revision.digest).name}


# --- what may be removed ---------------------------------------------------------------------------------------------


def cached(name: str, hours: float) -> CachedRevision:
    return CachedRevision(name, 1, NOW - timedelta(hours=hours))


def test_unused_is_what_no_version_names_and_nobody_has_wanted_for_long() -> None:
    held = [cached("old", 48), cached("served", 48), cached("new", 1)]
    assert unused(held, {"served"}, NOW - timedelta(hours=24)) == ["old"]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.floats(0, 100)), unique_by=lambda pair: pair[0]), st.data())
def test_nothing_that_is_kept_or_young_is_ever_unused(pairs: list[tuple[str, float]], data: st.DataObject) -> None:
    keep = data.draw(st.sets(st.sampled_from("abcdef")))
    held = [cached(name, hours) for name, hours in pairs]
    found = unused(held, keep, NOW - timedelta(hours=24))
    assert keep.isdisjoint(found)
    assert all(each.wanted_at < NOW - timedelta(hours=24) for each in held if each.name in found)


@pytest.fixture
async def two(cache: ModelCache, tmp_path: Path) -> tuple[Revision, Revision]:
    """Two revisions that are in the cache."""
    found = a_revision(tmp_path / "r1", "first"), a_revision(tmp_path / "r2", "second")
    for revision in found:
        await cache.put(MODEL, revision, silent)
    return found


async def test_pruning_removes_what_no_version_uses(
    folder: Path, cache: ModelCache, two: tuple[Revision, Revision]
) -> None:
    first, second = two
    removed = await cache.prune(MODEL, [second.digest], SOON)
    assert removed == [cached_at(MODEL, first.digest).name]
    assert names(folder) == {cached_at(MODEL, second.digest).name}


async def test_pruning_leaves_what_a_release_has_just_put(cache: ModelCache, two: tuple[Revision, Revision]) -> None:
    assert await cache.prune(MODEL, [], datetime.now(UTC) - timedelta(hours=1)) == []
    assert len(await cache.revisions(MODEL)) == 2


async def test_a_revision_in_use_counts_as_wanted_from_then_on(
    folder: Path, cache: ModelCache, two: tuple[Revision, Revision]
) -> None:
    for revision in two:
        age(folder, revision, LONG_AGO)
    await cache.prune(MODEL, [revision.digest for revision in two], SOON)
    assert await cache.prune(MODEL, [], datetime.now(UTC) - timedelta(hours=1)) == []


async def test_a_dry_run_says_what_would_go_and_touches_nothing(
    folder: Path, cache: ModelCache, two: tuple[Revision, Revision]
) -> None:
    first, second = two
    before = await cache.revisions(MODEL)
    removed = await cache.prune(MODEL, [second.digest], SOON, dry_run=True)
    assert removed == [cached_at(MODEL, first.digest).name]
    assert await cache.revisions(MODEL) == before


async def test_pruning_removes_what_was_left_half_done(
    folder: Path, cache: ModelCache, two: tuple[Revision, Revision]
) -> None:
    for name in (".draft-killed", ".gone-half"):
        (folder / MODEL / name).mkdir()
    await cache.prune(MODEL, [revision.digest for revision in two], SOON)
    assert names(folder) == {cached_at(MODEL, revision.digest).name for revision in two}


async def test_a_revision_that_could_not_be_deleted_is_not_offered_any_more(
    folder: Path, cache: ModelCache, two: tuple[Revision, Revision], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(path: Path) -> None:
        raise OSError(16, "Device or resource busy", str(path))

    monkeypatch.setattr(shutil, "rmtree", fails)
    with pytest.raises(Refused, match="cannot be pruned in the model cache"):
        await cache.prune(MODEL, [], SOON)
    assert await cache.revisions(MODEL) == []


async def test_a_model_that_was_never_put_has_nothing_to_prune(cache: ModelCache) -> None:
    assert await cache.prune("another", [], SOON) == []


# --- what goes with it -----------------------------------------------------------------------------------------------


async def test_an_image_whose_weights_are_in_the_cache_has_no_model(tmp_path: Path) -> None:
    spec = replace(image_spec(tmp_path), weights="cache")
    reference = await BundleImages(tmp_path / "bundles").build(spec, silent)
    built = tmp_path / "bundles" / reference.partition("@sha256:")[2]
    assert not (built / "model").exists()
    assert "MODEL_DIR" not in (built / "bundle.json").read_text()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_component_mounts_the_cache_into_the_server_for_reading_only(tmp_path: Path) -> None:
    root = shutil.copytree(MANIFESTS, tmp_path / "manifests") / "overlays" / "with-cache"
    root.mkdir()
    parts = {"resources": ["../../base/workload.yaml"], "components": ["../../components/model-cache"]}
    (root / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    command = ["kubectl", "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(root)]
    pod = yaml.safe_load(subprocess.run(command, check=True, capture_output=True).stdout)["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    mounts = {mount["mountPath"]: mount for mount in server["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert mounts.keys() == {"/tmp", "/models"}
    assert mounts["/models"]["readOnly"]
    assert volumes[mounts["/models"]["name"]]["persistentVolumeClaim"] == {"claimName": CLAIM, "readOnly": True}


def test_the_claim_has_the_name_that_the_component_asks_for() -> None:
    claim = yaml.safe_load((MANIFESTS / "components" / "model-cache" / "claim.yaml").read_text())
    assert claim["metadata"]["name"] == CLAIM
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]

"""Images for the sandbox: a directory per image, which its node runs as a process. No Docker.

    <store>/<hex>/bundle.json      entrypoint, environment (paths relative to the bundle), labels
    <store>/<hex>/app/serving/     the server, from the build context
    <store>/<hex>/model/           the revision's files, hard-linked where possible; if not in the cache
    <store>/versions/<version>     <hex>, so that an image can be found

<hex> is the digest over all of <store>/<hex>. A bundle is put together in a draft directory and renamed when it is
whole: whoever sees it sees all of it. Builds take turns by a lock that the kernel takes back from a process that dies,
so a draft that is found under the lock belongs to nobody and is removed. Linked files share their bytes with the
revision, which is immutable by definition.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sluice.errors import Refused
from sluice.images.content import digest_of, files_under
from sluice.images.context import PACKAGE, context_files, digest_of_context, model_files
from sluice.ports import ImageSpec

DRAFT = ".draft-"


class BundleImages:
    """A store of bundles in a directory."""

    def __init__(self, store: Path) -> None:
        self._store = store

    async def context_digest(self, context: Path) -> str:
        """`sha256:<hex>` over what of the build context goes into an image. Raises BadInput if it is no context."""
        return await asyncio.to_thread(digest_of_context, context)

    async def find(self, repository: str, version: str) -> str | None:
        """`repository@sha256:<hex>` of the version's bundle if it exists."""
        return await asyncio.to_thread(self._find, repository, version)

    async def build(self, spec: ImageSpec, progress: Callable[[str], None]) -> str:
        """The reference of the version's bundle, which is built unless it exists.

        Raises BadInput, or Refused if the bundle cannot be written; then nothing is left behind.
        """
        try:
            return await asyncio.to_thread(self._build, spec, progress)
        except OSError as error:
            raise Refused(
                f"the image of version {spec.version} cannot be written to {self._store}: {error}; "
                "make room or correct the rights, then trigger the release again"
            ) from error

    def _find(self, repository: str, version: str) -> str | None:
        index = self._index(version)
        if not index.is_file():
            return None
        digest = index.read_text().strip()
        return f"{repository}@sha256:{digest}" if (self._store / digest / "bundle.json").is_file() else None

    def _build(self, spec: ImageSpec, progress: Callable[[str], None]) -> str:
        with self._turn(progress):
            self._remove_drafts(progress)
            if existing := self._find(spec.repository, spec.version):
                progress(f"{existing} exists, nothing to build")
                return existing
            with self._draft() as draft:
                bundle = draft / "bundle"
                _fill(bundle, spec, progress)
                digest = digest_of(files_under(bundle))
                self._publish(draft, digest, spec.version)
            progress(f"built sha256:{digest}")
            return f"{spec.repository}@sha256:{digest}"

    @contextmanager
    def _turn(self, progress: Callable[[str], None]) -> Iterator[None]:
        self._store.mkdir(parents=True, exist_ok=True)
        with (self._store / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress("another build is at work, waiting for its end")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _remove_drafts(self, progress: Callable[[str], None]) -> None:
        for draft in self._store.glob(f"{DRAFT}*"):
            progress(f"removing {draft.name}, left by a build that was killed")
            shutil.rmtree(draft)

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=self._store))
        try:
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _publish(self, draft: Path, digest: str, version: str) -> None:
        if not (self._store / digest).exists():
            (draft / "bundle").rename(self._store / digest)
        self._index(version).parent.mkdir(exist_ok=True)
        (draft / "index").write_text(digest + "\n")
        (draft / "index").replace(self._index(version))

    def _index(self, version: str) -> Path:
        return self._store / "versions" / version


def _fill(bundle: Path, spec: ImageSpec, progress: Callable[[str], None]) -> None:
    app = {name: path for name, path in context_files(spec.context).items() if name.startswith(f"{PACKAGE}/")}
    progress(f"copying the server, {len(app)} files")
    _put(app, bundle / "app", shutil.copyfile)
    if spec.weights == "image":
        _fill_model(bundle / "model", spec, progress)
    (bundle / "bundle.json").write_text(json.dumps(_manifest(spec), indent=2, sort_keys=True) + "\n")


def _fill_model(target: Path, spec: ImageSpec, progress: Callable[[str], None]) -> None:
    model = model_files(spec.revision.location)
    megabytes = sum(path.stat().st_size for path in model.values()) / 1e6
    progress(f"linking revision {spec.revision.name}, {len(model)} files, {megabytes:.1f} MB")
    _put(model, target, _link)


def _manifest(spec: ImageSpec) -> dict[str, Any]:
    model = {"MODEL_DIR": "model"} if spec.weights == "image" else {}
    return {
        "entrypoint": ["python", "-m", PACKAGE],
        "env": {"PYTHONPATH": "app", **model},
        "labels": {"version": spec.version, "revision": spec.revision.name, "revision_digest": spec.revision.digest},
    }


def _put(files: Mapping[str, Path], target: Path, how: Callable[[Path, Path], object]) -> None:
    for name, path in files.items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        how(path.resolve(), target / name)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)

"""The model cache: revisions' files in a folder that Sluice's workers write and the models' pods mount read-only.

    <cache>/<model>/<revision>/    its files; <revision> is the content digest's hex digits, or the hub's commit
    <cache>/<model>/.draft-…       a copy that is not whole yet
    <cache>/<model>/.gone-…        a revision that is being removed
    <cache>/<model>/.lock

A revision is there whole or not at all: it is copied into a draft, written through to the disk, read again and renamed.
It goes the other way round: renamed first, then deleted. Copying and pruning of one model take turns by a lock that
the kernel takes back from a process that dies, so a draft that is found under the lock belongs to nobody. Should a
network file system keep locks per machine, turns are not taken any more, but the renames still hold.

The time of a revision's folder is when it was last known to be wanted: copied, asked for again, or in use as the cache
was pruned. Nothing but this is ever changed in it.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sluice.errors import Refused
from sluice.images.content import digest_of, files_under
from sluice.images.context import model_files
from sluice.ports import CachedRevision, Revision, cached_at

DRAFT, GONE = ".draft-", ".gone-"
ALGORITHM = "sha256:"
COPIED_AT_ONCE = 16 << 20
READABLE_FILE, READABLE_FOLDER = 0o644, 0o755
"""The pods run as another user than Sluice's workers."""

Progress = Callable[[str], None]


def unused(cached: Sequence[CachedRevision], keep: Collection[str], since: datetime) -> list[str]:
    """The names that are not in `keep`, of revisions that nobody has wanted since `since`."""
    return [each.name for each in cached if each.name not in keep and each.wanted_at < since]


class ModelCache:
    """The cache in one folder. Files are copied and read in threads: weights are big."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, model: str, revision: Revision, progress: Progress) -> None:
        """Have the revision in the cache; if it is there already, it is only noted that it is wanted.

        Raises Refused if it cannot be written, or if its files are not (or no longer) those of its digest.
        """
        with self._refusing(f"revision {revision.name} of {model} cannot be copied"):
            await asyncio.to_thread(self._put, model, revision, progress)

    async def revisions(self, model: str) -> Sequence[CachedRevision]:
        """What the cache holds of a model, in the order of names. Raises Refused if it cannot be read."""
        with self._refusing(f"the revisions of {model} cannot be read"):
            return await asyncio.to_thread(self._revisions, model)

    async def prune(
        self, model: str, keep: Collection[str], since: datetime, *, dry_run: bool = False
    ) -> Sequence[str]:
        """Remove what is `unused` by the digests in `keep`, and what was left half done; returns the revisions' names.

        Those in `keep` are noted as wanted now. `dry_run` writes nothing. Raises Refused if it cannot be done.
        """
        names = {cached_at(model, digest).name for digest in keep}
        with self._refusing(f"the revisions of {model} cannot be pruned"):
            return await asyncio.to_thread(self._prune, model, names, since, dry_run)

    @contextmanager
    def _refusing(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "make room, correct the rights, or look at the mount"
            raise Refused(f"{what} in the model cache {self._folder}: {error}; {remedy}") from error

    def _put(self, model: str, revision: Revision, progress: Progress) -> None:
        target = self._mounted() / cached_at(model, revision.digest)
        _make_readable(target.parent)
        with _turn(target.parent, progress):
            _remove_drafts(target.parent, progress)
            if target.is_dir():
                os.utime(target)
                progress(f"revision {revision.name} is in the model cache")
                return
            with _draft(target.parent) as draft:
                _fill(draft, revision, progress)
                _publish(draft, target)
        progress(f"revision {revision.name} is in the model cache as {target.name}")

    def _revisions(self, model: str) -> list[CachedRevision]:
        folder = self._mounted() / model
        folders = folder.iterdir() if folder.is_dir() else ()
        return [_described(path) for path in sorted(folders) if path.is_dir() and not path.name.startswith(".")]

    def _prune(self, model: str, keep: set[str], since: datetime, dry_run: bool) -> list[str]:
        folder = self._folder / model
        if dry_run or not folder.is_dir():
            return unused(self._revisions(model), keep, since)
        with _turn(folder):
            cached = self._revisions(model)
            removed = unused(cached, keep, since)
            for name in removed:
                (folder / name).rename(folder / f"{GONE}{name}")
            for name in keep & {each.name for each in cached}:
                os.utime(folder / name)
            _remove_drafts(folder)
            for gone in folder.glob(f"{GONE}*"):
                shutil.rmtree(gone)
        return removed

    def _mounted(self) -> Path:
        """The folder, which is never made here: what is written beside a mount that is missing helps no pod."""
        if not self._folder.is_dir():
            raise NotADirectoryError("there is no such folder")
        return self._folder


@contextmanager
def _turn(folder: Path, progress: Progress = lambda line: None) -> Iterator[None]:
    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress("the model cache is being written, waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _described(folder: Path) -> CachedRevision:
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return CachedRevision(folder.name, size, datetime.fromtimestamp(folder.stat().st_mtime, UTC))


def _remove_drafts(folder: Path, progress: Progress = lambda line: None) -> None:
    """Renamed first, so that its writer, should there be one after all, finds it missing and not half empty."""
    for draft in folder.glob(f"{DRAFT}*"):
        progress(f"removing {draft.name}, left by a copy that was killed")
        shutil.rmtree(draft.rename(folder / f"{GONE}{draft.name}"))


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    draft = Path(tempfile.mkdtemp(prefix=DRAFT, dir=folder))
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(draft: Path, revision: Revision, progress: Progress) -> None:
    files = model_files(revision.location)
    megabytes = sum(path.stat().st_size for path in files.values()) / 1e6
    progress(f"copying revision {revision.name} into the model cache, {len(files)} files, {megabytes:.1f} MB")
    for name, path in files.items():
        _make_readable((draft / name).parent)
        _copy(path, draft / name)
    _check(files, draft, revision)
    for folder in (draft, *(path for path in draft.rglob("*") if path.is_dir())):
        folder.chmod(READABLE_FOLDER)
        _write_through(folder)


def _copy(source: Path, target: Path) -> None:
    with source.open("rb") as reader, target.open("xb") as writer:
        shutil.copyfileobj(reader, writer, COPIED_AT_ONCE)
        writer.flush()
        os.fsync(writer.fileno())
    target.chmod(READABLE_FILE)


def _check(files: Mapping[str, Path], draft: Path, revision: Revision) -> None:
    """A content digest says what the copy must be; a commit does not, so that the source has to."""
    copied = digest_of(files_under(draft))
    known = revision.digest.startswith(ALGORITHM)
    expected = revision.digest.removeprefix(ALGORITHM) if known else digest_of(files)
    if copied != expected:
        raise Refused(
            f"revision {revision.name}: its copy has the digest {ALGORITHM}{copied} instead of {ALGORITHM}{expected}; "
            "its files changed after the release was planned: trigger a new release for it"
        )


def _publish(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:  # put by another machine that does not see this one's lock
        if not target.is_dir():
            raise
    _write_through(target.parent)


def _make_readable(folder: Path) -> None:
    if not folder.is_dir():
        _make_readable(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(READABLE_FOLDER)


def _write_through(folder: Path) -> None:
    """What has been created or renamed in a folder lasts once the folder itself is on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

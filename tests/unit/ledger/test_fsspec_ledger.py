"""The ledger on a directory and in memory: append-only, shared by writers, and honest about damage."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest

from sluice.errors import BadInput, Refused, Unreachable
from sluice.ledger.store import FsspecLedger

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL, RELEASE = "arithmetic", "20260301T120000-a1b2c3"


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "directory" else f"memory://{uuid.uuid4()}"


async def written(ledger: FsspecLedger, *kinds: str) -> None:
    for kind in kinds:
        await ledger.append(MODEL, RELEASE, kind, {"kind": kind}, AT)


async def kinds(ledger: FsspecLedger) -> list[str]:
    return [entry.kind for entry in await ledger.entries(MODEL, RELEASE)]


def file(root: Path, number: int) -> Path:
    return root / MODEL / RELEASE / f"{number:06d}.json"


async def test_another_process_reads_what_was_appended(url: str) -> None:
    data = {"weights": {"v1": 95, "v2": 5}, "share": 0.051, "step": None, "reason": "größer als 5 %"}
    entry = await FsspecLedger(url).append(MODEL, RELEASE, "shift", data, AT)
    assert await FsspecLedger(url).entries(MODEL, RELEASE) == (entry,)
    assert (entry.number, entry.kind, entry.at, entry.data) == (1, "shift", AT, data)


async def test_entries_are_chained_in_order(url: str) -> None:
    ledger = FsspecLedger(url)
    await written(ledger, "plan", "begin", "shift")
    entries = await ledger.entries(MODEL, RELEASE)
    assert [(entry.number, entry.kind) for entry in entries] == [(1, "plan"), (2, "begin"), (3, "shift")]
    assert all(before.hash == after.previous_hash for before, after in pairwise(entries))


async def test_a_release_that_nobody_wrote_has_no_entries(url: str) -> None:
    assert await FsspecLedger(url).entries(MODEL, RELEASE) == ()
    assert await FsspecLedger(url).releases(MODEL) == []


async def test_releases_are_listed_oldest_first(url: str) -> None:
    ledger = FsspecLedger(url)
    for release in ("20260302T000000", "20251231T000000", "20260301T000000"):
        await ledger.append(MODEL, release, "plan", {}, AT)
    assert await ledger.releases(MODEL) == ["20251231T000000", "20260301T000000", "20260302T000000"]


async def test_writers_at_the_same_time_lose_nothing(url: str) -> None:
    writers = [FsspecLedger(url) for _ in range(3)]
    await asyncio.gather(*(written(writer, *(f"{name}{n}" for n in range(20))) for name, writer in enumerate(writers)))
    found = await kinds(FsspecLedger(url))
    assert sorted(found) == sorted(f"{name}{n}" for name in range(3) for n in range(20))


WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from sluice.ledger.store import FsspecLedger

async def main() -> None:
    ledger = FsspecLedger(sys.argv[1])
    for number in range(25):
        await ledger.append("arithmetic", sys.argv[2], f"{sys.argv[3]}{number}", {}, datetime.now(UTC))

asyncio.run(main())
"""


async def test_processes_at_the_same_time_lose_nothing(tmp_path: Path) -> None:
    arguments = (sys.executable, "-c", WRITER, str(tmp_path), RELEASE)
    writers = [await asyncio.create_subprocess_exec(*arguments, name) for name in "ab"]
    assert [await writer.wait() for writer in writers] == [0, 0]
    found = await kinds(FsspecLedger(str(tmp_path)))
    assert [kind for kind in found if kind.startswith("a")] == [f"a{n}" for n in range(25)]
    assert len(found) == 50


async def test_a_changed_entry_refuses_the_whole_release(tmp_path: Path) -> None:
    ledger = FsspecLedger(str(tmp_path))
    await written(ledger, "plan", "watch", "settle")
    changed = file(tmp_path, 2)
    changed.write_text(changed.read_text().replace('{"kind":"watch"}', '{"kind":"match"}'))
    with pytest.raises(Refused, match=r"a1b2c3: ledger entry 2 \(watch\) was changed after .*; restore"):
        await ledger.entries(MODEL, RELEASE)


async def test_an_entry_missing_from_the_middle_is_noticed(tmp_path: Path) -> None:
    ledger = FsspecLedger(str(tmp_path))
    await written(ledger, "plan", "watch", "settle")
    file(tmp_path, 2).unlink()
    with pytest.raises(Refused, match="entry 3 does not follow entry 1: what lies between them is missing"):
        await ledger.entries(MODEL, RELEASE)


async def test_a_missing_beginning_is_noticed(tmp_path: Path) -> None:
    ledger = FsspecLedger(str(tmp_path))
    await written(ledger, "plan", "watch")
    file(tmp_path, 1).unlink()
    with pytest.raises(Refused, match="entries before 2 are missing or unreadable"):
        await ledger.entries(MODEL, RELEASE)


async def test_an_entry_damaged_in_the_middle_is_noticed(tmp_path: Path) -> None:
    ledger = FsspecLedger(str(tmp_path))
    await written(ledger, "plan", "watch", "settle")
    truncate(file(tmp_path, 2))
    with pytest.raises(Refused, match="entry 3 does not follow entry 1: what lies between them is missing or unread"):
        await ledger.entries(MODEL, RELEASE)


@pytest.mark.parametrize("left", [0, 40])
async def test_what_a_stopped_writer_left_last_is_no_entry_and_is_superseded(tmp_path: Path, left: int) -> None:
    await written(FsspecLedger(str(tmp_path)), "plan", "watch")
    truncate(file(tmp_path, 2), left)
    ledger = FsspecLedger(str(tmp_path), patience_seconds=0)
    assert await kinds(ledger) == ["plan"]
    await written(ledger, "watch again", "settle")
    assert await kinds(FsspecLedger(str(tmp_path))) == ["plan", "watch again", "settle"]
    assert file(tmp_path, 2).stat().st_size == left, "nothing is ever changed or removed"


async def test_a_first_entry_that_was_cut_off_is_superseded_too(tmp_path: Path) -> None:
    await written(FsspecLedger(str(tmp_path)), "plan")
    truncate(file(tmp_path, 1))
    ledger = FsspecLedger(str(tmp_path), patience_seconds=0)
    await written(ledger, "plan again")
    assert await kinds(ledger) == ["plan again"]


async def test_a_writer_waits_for_an_entry_that_is_being_written(tmp_path: Path) -> None:
    await written(FsspecLedger(str(tmp_path)), "plan", "watch")
    slow = file(tmp_path, 2)
    whole = slow.read_bytes()
    truncate(slow)
    appending = asyncio.create_task(written(FsspecLedger(str(tmp_path), patience_seconds=30), "settle"))
    await asyncio.sleep(0.01)
    slow.write_bytes(whole)
    await appending
    assert await kinds(FsspecLedger(str(tmp_path))) == ["plan", "watch", "settle"]


def truncate(path: Path, left: int = 40) -> None:
    path.write_bytes(path.read_bytes()[:left])


async def test_appending_alone_reads_nothing(tmp_path: Path) -> None:
    """The tail is in memory: entries that cannot be read any more do not disturb the writer that wrote them."""
    ledger = FsspecLedger(str(tmp_path), patience_seconds=0)
    await written(ledger, "plan", "watch")
    truncate(file(tmp_path, 2))
    await written(ledger, "settle")
    assert json.loads(file(tmp_path, 3).read_text())["kind"] == "settle"


async def test_appending_after_a_changed_entry_is_refused(tmp_path: Path) -> None:
    await written(FsspecLedger(str(tmp_path)), "plan")
    changed = file(tmp_path, 1)
    changed.write_text(changed.read_text().replace('"number":1', '"number":7'))
    with pytest.raises(Refused, match="was changed after it was written"):
        await written(FsspecLedger(str(tmp_path)), "watch")


async def test_times_are_kept_in_utc(url: str) -> None:
    local = AT.astimezone(timezone(timedelta(hours=9)))
    entry = await FsspecLedger(url).append(MODEL, RELEASE, "plan", {}, local)
    assert entry.at.isoformat() == "2026-03-01T12:00:00+00:00"


@pytest.mark.parametrize("data", [{"rate": float("nan")}, {"at": AT}, {"versions": {"v1"}}])
async def test_data_that_are_no_json_are_refused_before_anything_is_written(url: str, data: dict[str, object]) -> None:
    ledger = FsspecLedger(url)
    with pytest.raises(BadInput, match="ledger entry 'watch': its data are no JSON"):
        await ledger.append(MODEL, RELEASE, "watch", data, AT)
    assert await ledger.entries(MODEL, RELEASE) == ()


async def test_data_read_like_they_were_returned(url: str) -> None:
    ledger = FsspecLedger(url)
    entry = await ledger.append(MODEL, RELEASE, "plan", {"ladder": (5, 25), "by": {10: "ten", 9: "nine"}}, AT)
    assert await FsspecLedger(url).entries(MODEL, RELEASE) == (entry,)


@pytest.mark.parametrize("release", ["..", "a/b", "", ".hidden", "a*"])
async def test_a_release_stays_inside_its_ledger(url: str, release: str) -> None:
    with pytest.raises(BadInput, match="cannot name a folder of the ledger"):
        await FsspecLedger(url).append(MODEL, release, "plan", {}, AT)


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file where the folder should be")
    with pytest.raises(Unreachable, match=r"the ledger cannot .*ledger/arithmetic"):
        await FsspecLedger(str(tmp_path / "ledger")).append(MODEL, RELEASE, "plan", {}, AT)

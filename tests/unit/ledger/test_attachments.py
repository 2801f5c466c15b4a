"""What is kept beside a release's entries: replaced as a whole, and never taken for an entry."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest

from sluice.errors import BadInput, Unreachable
from sluice.ledger.store import FsspecLedger

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MODEL, RELEASE = "arithmetic", "20260301T120000-a1b2c3"


@pytest.fixture(params=["directory", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "directory" else f"memory://{uuid.uuid4()}"


async def test_another_process_reads_what_was_attached(url: str) -> None:
    where = await FsspecLedger(url).attach(MODEL, RELEASE, "report.html", b"<p>page</p>")
    assert where.endswith(f"/{MODEL}/{RELEASE}/report.html")
    assert await FsspecLedger(url).attachment(MODEL, RELEASE, "report.html") == b"<p>page</p>"


async def test_the_same_name_again_replaces_what_was_there(url: str) -> None:
    ledger = FsspecLedger(url)
    await ledger.attach(MODEL, RELEASE, "report.html", b"a long first page")
    await ledger.attach(MODEL, RELEASE, "report.html", b"second")
    assert await ledger.attachment(MODEL, RELEASE, "report.html") == b"second"
    assert await ledger.attachments(MODEL, RELEASE) == ["report.html"]


async def test_what_nobody_attached_is_none(url: str) -> None:
    ledger = FsspecLedger(url)
    await ledger.append(MODEL, RELEASE, "plan", {}, AT)
    assert await ledger.attachment(MODEL, RELEASE, "report.html") is None
    assert await ledger.attachments(MODEL, RELEASE) == []
    assert await ledger.attachments(MODEL, "another") == []


async def test_attachments_are_no_entries_and_entries_no_attachments(url: str) -> None:
    ledger = FsspecLedger(url)
    await ledger.append(MODEL, RELEASE, "plan", {}, AT)
    for name in ("report.html", "0000002.json", "zzz.json"):
        await ledger.attach(MODEL, RELEASE, name, b"{}")
    await FsspecLedger(url).append(MODEL, RELEASE, "begun", {}, AT)
    entries = await FsspecLedger(url).entries(MODEL, RELEASE)
    assert [(entry.number, entry.kind) for entry in entries] == [(1, "plan"), (2, "begun")]
    assert await ledger.attachments(MODEL, RELEASE) == ["0000002.json", "report.html", "zzz.json"]


@pytest.mark.parametrize("name", ["000002.json", "000002.json.0123abcd", "..", "a/b", "", ".hidden"])
async def test_a_name_that_could_be_an_entry_or_lie_elsewhere_is_refused(url: str, name: str) -> None:
    with pytest.raises(BadInput, match="cannot name an attachment"):
        await FsspecLedger(url).attach(MODEL, RELEASE, name, b"{}")
    with pytest.raises(BadInput, match="cannot name an attachment"):
        await FsspecLedger(url).attachment(MODEL, RELEASE, name)


async def test_drafts_of_stopped_writers_are_not_listed(tmp_path: Path) -> None:
    ledger = FsspecLedger(str(tmp_path))
    await ledger.append(MODEL, RELEASE, "plan", {}, AT)
    folder = tmp_path / MODEL / RELEASE
    for draft in (f"000002.json.{uuid.uuid4().hex}", f".report.html.{uuid.uuid4().hex}"):
        (folder / draft).write_bytes(b"half")
    assert await ledger.attachments(MODEL, RELEASE) == []


async def test_who_reads_while_others_replace_sees_one_whole_page(tmp_path: Path) -> None:
    ledger = FsspecLedger(str(tmp_path))
    pages = [letter * 100_000 for letter in (b"a", b"b", b"c")]
    await ledger.attach(MODEL, RELEASE, "report.html", pages[0])
    writing = asyncio.gather(*(ledger.attach(MODEL, RELEASE, "report.html", page) for page in pages * 5))
    while not writing.done():
        assert await ledger.attachment(MODEL, RELEASE, "report.html") in pages
    await writing
    assert [path.name for path in (tmp_path / MODEL / RELEASE).iterdir()] == ["report.html"]


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file where the folder should be")
    with pytest.raises(Unreachable, match=r"the ledger cannot write .*report\.html"):
        await FsspecLedger(str(tmp_path / "ledger")).attach(MODEL, RELEASE, "report.html", b"")

"""The chain of a release's entries: each holds the hash of the one before and its own. Pure.

An entry's bytes are canonical JSON (sorted keys, no spaces, UTF-8), its hash is sha256 over them without the field
`hash`. So an entry that was changed, moved or taken out of the middle shows; entries missing at the *end* do not.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sluice.errors import BadInput, Refused
from sluice.ports import Entry

GENESIS = ""
"""The previous hash of a release's first entry."""


def seal(number: int, kind: str, at: datetime, data: Mapping[str, Any], previous_hash: str) -> Entry:
    """A new entry with its hash; `data` becomes what JSON gives back. Raises BadInput if it is no JSON."""
    try:
        plain = json.loads(json.dumps(data, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"ledger entry {kind!r}: its data are no JSON ({error}); write plain numbers and texts"
        ) from error
    unsealed = Entry(number, kind, at.astimezone(UTC), plain, previous_hash, "")
    return Entry(number, kind, unsealed.at, plain, previous_hash, _hash(unsealed))


def to_bytes(entry: Entry) -> bytes:
    """Canonical JSON; `from_bytes` reads it back."""
    return _canonical(_fields(entry) | {"hash": entry.hash})


def from_bytes(content: bytes) -> Entry | None:
    """The entry, or None if the bytes are no whole entry (their writer was stopped while it wrote them)."""
    try:
        fields = json.loads(content)
        return Entry(
            number=fields["number"],
            kind=fields["kind"],
            at=datetime.fromisoformat(fields["at"]),
            data=fields["data"],
            previous_hash=fields["previous_hash"],
            hash=fields["hash"],
        )
    except (ValueError, KeyError, TypeError):
        return None


def verify_hash(entry: Entry) -> None:
    """Raises Refused if the entry was changed."""
    if entry.hash != _hash(entry):
        raise Refused(f"ledger entry {entry.number} ({entry.kind}) was changed after it was written; {_RESTORE}")


def verify(entries: Sequence[Entry]) -> None:
    """Raises Refused if an entry was changed, or does not follow the one before it."""
    for entry in entries:
        verify_hash(entry)
    if entries and entries[0].previous_hash != GENESIS:
        raise Refused(f"the ledger's entries before {entries[0].number} are missing or unreadable; {_RESTORE}")
    for before, after in itertools.pairwise(entries):
        if after.number <= before.number or after.previous_hash != before.hash:
            between = ": what lies between them is missing or unreadable" if after.number - before.number > 1 else ""
            raise Refused(f"ledger entry {after.number} does not follow entry {before.number}{between}; {_RESTORE}")


_RESTORE = "restore the release's entries from a backup, what they record can no longer be relied on"


def _hash(entry: Entry) -> str:
    return hashlib.sha256(_canonical(_fields(entry))).hexdigest()


def _fields(entry: Entry) -> dict[str, Any]:
    return {
        "number": entry.number,
        "kind": entry.kind,
        "at": entry.at.isoformat(),
        "data": entry.data,
        "previous_hash": entry.previous_hash,
    }


def _canonical(fields: Mapping[str, Any]) -> bytes:
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

"""The audit chain of one license, followed from its beginning to the head that stands in the license row."""

from collections.abc import Sequence
from hashlib import sha256

from shared.domain.effects import NO_AUDIT, AuditEntry


def chain_fault(links: Sequence[AuditEntry], head: bytes) -> str | None:
    """Return where the chain `links`, in order of writing, is broken; None when it is whole and ends at `head`."""
    previous = NO_AUDIT
    for position, link in enumerate(links, start=1):
        if link.previous_sha256 != previous:
            return f"entry {position} does not follow the one before: a row is missing, foreign or out of order"
        if sha256(previous + link.entry).digest() != link.entry_sha256:
            return f"entry {position} is not what was hashed: its text was changed"
        previous = link.entry_sha256
    if previous != head:
        return f"the chain of {len(links)} entries does not end at the head in the license row: rows are missing"
    return None

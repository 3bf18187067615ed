"""The audit chain of one license, followed from its beginning to the head that stands in the license row."""

from collections.abc import Sequence
from hashlib import sha256

from shared.domain.effects import NO_AUDIT, AuditEntry, lone_root


def chain_fault(links: Sequence[AuditEntry], head: bytes) -> str | None:
    """Return where the chain `links`, in order of writing, is broken; None when it is whole and ends at `head`.

    What was asked before there was a license are lone links before the chain: each must be what was hashed. That none
    of them is missing, nobody can tell; the chain itself has no such gap. `head` is `NO_AUDIT` without a license.
    """
    previous = NO_AUDIT
    for position, link in enumerate(links, start=1):
        is_lone = previous == NO_AUDIT and link.previous_sha256 == lone_root(link.entry)
        if not is_lone and link.previous_sha256 != previous:
            return f"entry {position} does not follow the one before: a row is missing, foreign or out of order"
        if sha256(link.previous_sha256 + link.entry).digest() != link.entry_sha256:
            return f"entry {position} is not what was hashed: its text was changed"
        if not is_lone:
            previous = link.entry_sha256
    if previous != head:
        return f"the chain of {len(links)} entries does not end at the head in the license row: rows are missing"
    return None

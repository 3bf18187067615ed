"""The journal: one entry per request with what it asked, which mischief struck, what it changed and what it cost.

Secrets never enter it (docs/protocols/isplicense.md 13.1). Entries are kept as finished JSON: cheap to hold by the
hundred thousand, cheap to hand out, cheap to forget at a reset.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import orjson

from keyway.sandbox.forms import Form

ENTRIES_MAX = 100_000
VALUE_LENGTH_MAX = 300
MASK = "***"
LAB_HEADER = "X-Lab-Attempt"
SECRET_NAMES = frozenset({"authinfo", "auth", "password", "key", "lickey", "qrcode"})


@dataclass(slots=True, kw_only=True)
class JournalEntry:
    """What is known of one request so far; written on arrival and again before the answer."""

    number: int
    at: datetime
    method: str
    path: str
    func: str
    user: str
    names: list[str]
    values: dict[str, str]
    is_submit: bool
    secrets_in_query: bool
    connection: str
    tls: bool
    attempt: str
    faults: list[dict[str, object]] = field(default_factory=list)
    effects: list[str] = field(default_factory=list)
    charge: str = ""
    outcome: str = ""


def redacted(form: Form) -> dict[str, str]:
    """Return the parameters with secret values masked, long ones cut, and every echo of a known secret masked too."""
    secrets = {value for name, value in form.parameters.items() if name in SECRET_NAMES and value}
    if ":" in (authinfo := form.parameters.get("authinfo", "")):
        secrets.add(authinfo.partition(":")[2])
    secrets.discard("")
    return {
        name: MASK if name in SECRET_NAMES or any(secret in value for secret in secrets) else value[:VALUE_LENGTH_MAX]
        for name, value in form.parameters.items()
    }


def has_secret(names: frozenset[str]) -> bool:
    """Whether one of these parameter names carries a secret."""
    return not SECRET_NAMES.isdisjoint(names)


class Journal:
    """The newest entries by number; `forgotten` counts those that no longer fit."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[int, bytes] = {}
        self.next_number = 1
        self.forgotten = 0

    def keep(self, number: int, entry: bytes) -> None:
        """Take over the entry of request `number`, replacing what was known of it before."""
        self._entries[number] = entry
        self.next_number = max(self.next_number, number + 1)
        if len(self._entries) > ENTRIES_MAX:
            del self._entries[next(iter(self._entries))]
            self.forgotten += 1

    def entries(self, since: int = 0) -> Iterator[bytes]:
        """Return the entries with numbers above `since`, oldest first."""
        return (entry for number, entry in self._entries.items() if number > since)


def encode_entry(entry: JournalEntry) -> bytes:
    """Return an entry as JSON."""
    return orjson.dumps(entry)

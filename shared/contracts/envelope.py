"""The command envelope, version 1, and the ids in it.

Members: `version`, `command_id`, `correlation_id`, `causation_id`, `license_id`, `account`, `type`, `payload`,
`deadline_at`, `occurred_at`, and `request` only where a public request led to the command. Unknown extra members are
ignored; a higher version is a dead letter (roll workers out first). The command id is new per HTTP request and
recognizes a redelivered record; its UUIDv7 time also names the day under which the result is kept, so that the day
never depends on a clock at the reader.
"""

import secrets
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from uuid import NAMESPACE_URL, UUID, uuid5

import uuid_utils.compat

from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import CommandId, LicenseId, license_id
from shared.contracts.requests import RequestReference

ENVELOPE_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """One command on its way."""

    command_id: CommandId
    correlation_id: UUID
    """Ties logs, replies and traces of one request together; the command id unless a caller gave one."""
    causation_id: UUID | None
    """What led to this command, when it was not a caller."""
    command: LicenseCommand
    deadline_at: datetime | None
    """Aware UTC; a command not begun by then is dropped (TERMINATE excepted). None: it always runs."""
    occurred_at: datetime
    """Aware UTC, system clock: when the command was made."""
    request: RequestReference | None = None
    """The public request behind it: its outcome is told as an event."""

    @property
    def license_id(self) -> LicenseId:
        """The license concerned: record key and unit of order."""
        return license_id(self.command.account, self.command.number)


def new_id() -> UUID:
    """Return a fresh UUIDv7: time-ordered, unique across processes."""
    return uuid_utils.compat.uuid7()


def derived_id(origin: UUID, step: str) -> UUID:
    """Return the id of what follows from `origin` at `step`: the same UUIDv7 whenever it is asked for, of its day."""
    digest = int.from_bytes(sha256(origin.bytes + step.encode()).digest()[:16], "big")
    chance = digest & ((1 << 80) - 1) & ~(0xF << 76) & ~(0b11 << 62)
    return UUID(int=(origin.int >> 80 << 80) | (7 << 76) | (0b10 << 62) | chance)


def command_id_of_request(source: str, request_id: str, first_seen_at: datetime) -> CommandId:
    """Return the id of the command that a public request became: the same UUIDv7 whenever it is asked for.

    Its day is that of `first_seen_at`, which is remembered with the request; no clock is read.
    """
    moment = UUID(int=int(first_seen_at.timestamp() * 1000) << 80)
    return CommandId(derived_id(moment, _named(source, request_id)))


def cause_of_request(source: str, request_id: str) -> UUID:
    """Return the causation id of the command that a public request became: a UUID of its `source` and `id`."""
    return uuid5(NAMESPACE_URL, _named(source, request_id))


def _named(source: str, request_id: str) -> str:
    return f"{len(source)}:{source}{request_id}"


def day_of(command_id: UUID) -> date:
    """Return the UTC day of a UUIDv7: the first 48 bits are milliseconds since 1970."""
    return datetime.fromtimestamp((command_id.int >> 80) / 1000, UTC).date()


ACTIVATION_CODE_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""Letters and digits that people do not mix up."""


def new_activation_code() -> str:
    """Return a fresh activation code: five groups of six letters and digits, 150 random bits."""
    letters = [ACTIVATION_CODE_ALPHABET[byte & 31] for byte in secrets.token_bytes(30)]
    return "-".join("".join(letters[start : start + 6]) for start in range(0, 30, 6))

"""Failures of machines, sorted by what the reader should do next.

A business "no" is never an exception (see `shared.domain.decision.Rejected`). These are the other two: *failed* (a
machine could not; retry) and *invalid* (nobody can read it; dead letter or refusal to start).
"""


class KeywayError(Exception):
    """Root of our own exceptions; `code` is the machine-readable name beside the text."""

    code = "error"


class ConfigurationError(KeywayError):
    """A setting or a declared file is wrong: the process must not start. The text says which value and what to do."""

    code = "configuration"


class InvalidRecordError(KeywayError):
    """A record that nobody can read; it belongs in the dead letters with this `reason`."""

    code = "invalid_record"

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class ConflictError(KeywayError):
    """The stored state moved on between reading and writing: read again and decide again."""

    code = "conflict"


class UnavailableError(KeywayError):
    """A machine we need (database, broker) does not answer now: nothing is known to have happened, try again."""

    code = "unavailable"


class StoreRefusedError(KeywayError):
    """The database cannot hold a value of this batch (not a conflict, not an outage): find the one and set it aside."""

    code = "store_refused"

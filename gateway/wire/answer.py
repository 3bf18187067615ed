"""The two values that every wire form speaks in: a finished HTTP answer, and why a request cannot be read."""

from dataclasses import dataclass

NO_SNIFF = b"X-Content-Type-Options: nosniff\r\n"
PLAIN_TEXT = b"Content-Type: text/plain; charset=UTF-8\r\n" + NO_SNIFF
JSON_TEXT = b"Content-Type: application/json; charset=UTF-8\r\n" + NO_SNIFF


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, complete but for what depends on the connection (`Date`, `Connection`, `Content-Length`)."""

    status: int
    head: bytes
    """Header lines, each ended by CRLF."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Invalid:
    """Nobody can read this request: 400. `reason` completes `Error: ….` and names only values that were checked."""

    reason: str

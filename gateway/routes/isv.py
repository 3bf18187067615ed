"""`POST /isv`, the ISV endpoint: the first failed check answers, in the order of docs/protocols/isv-endpoint.md 2.2."""

import re
from typing import assert_never

import structlog
from aiohttp import hdrs, web

from gateway.auth import Doorkeeper
from gateway.command_bus import Bus
from gateway.problems import REFUSED, UNANSWERED, Refused, Unanswered, invalid, rejected
from gateway.routes.journal import Journal
from gateway.routes.request_body import read_body, refuse_doubtful_framing
from gateway.routes.whole_response import DateLine, WholeResponse
from gateway.wire.answer import Answer, Invalid
from gateway.wire.isv import (
    MEDIA_TYPES,
    TERMINATED,
    IsvRequest,
    license_body,
    read_request,
    termination_note,
    usage_report,
)
from shared.clock import SystemClock
from shared.contracts.envelope import new_id
from shared.contracts.identifiers import CommandId
from shared.contracts.replies import Reply, ReplyStatus
from shared.security.accounts import Principal

PATH = "/isv"
TRACE_PARENT = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
CLOSING = frozenset({Refused.TOO_LARGE, Refused.BODY_LATE, Refused.BODY_BROKEN})
"""After these nobody knows where the next request would begin, or would have to read on to find out."""

log = structlog.get_logger()


def trace_parent_of(request: web.Request) -> bytes | None:
    """Return the W3C trace header of a request, None when it has none that is valid."""
    trace_parent = request.headers.get("traceparent")
    if trace_parent is None or TRACE_PARENT.fullmatch(trace_parent) is None:
        return None
    return trace_parent.encode("ascii")


class _Outcome:
    """What became of one request, for its answer and its journal line."""

    __slots__ = ("account", "action", "answer", "command_id", "reason")

    def __init__(self) -> None:
        self.answer: Answer = REFUSED[Refused.INTERNAL]
        self.action = "isv"
        self.account = ""
        self.reason = ""
        self.command_id: CommandId | None = None

    def refuse(self, reason: Refused | Unanswered) -> None:
        self.reason = reason.value
        self.answer = REFUSED[reason] if isinstance(reason, Refused) else UNANSWERED[reason]


class IsvEndpoint:
    """The handler of `/isv`."""

    __slots__ = ("_body_limit_bytes", "_bus", "_clock", "_date", "_doorkeeper", "_journal")

    def __init__(
        self,
        *,
        bus: Bus,
        doorkeeper: Doorkeeper,
        journal: Journal,
        clock: SystemClock,
        date_line: DateLine,
        body_limit_bytes: int,
    ) -> None:
        """`doorkeeper` lets in accounts of the role `ka`."""
        self._bus = bus
        self._doorkeeper = doorkeeper
        self._journal = journal
        self._clock = clock
        self._date = date_line
        self._body_limit_bytes = body_limit_bytes

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever its method."""
        refuse_doubtful_framing(request)
        started = self._clock.monotonic()
        outcome = _Outcome()
        await self._answer(request, outcome)
        now = self._clock.monotonic()
        self._journal.note(
            outcome.action,
            outcome.answer.status,
            now - started,
            account=outcome.account,
            reason=outcome.reason,
            correlation_id=outcome.command_id,
        )
        return WholeResponse(outcome.answer, self._date.current(now), close=outcome.reason in CLOSING)

    async def _answer(self, request: web.Request, outcome: _Outcome) -> None:
        admitted = await self._admitted(request)
        if isinstance(admitted, Refused):
            outcome.refuse(admitted)
            return
        outcome.account = admitted.account
        body = await self._body(request)
        if isinstance(body, Refused):
            outcome.refuse(body)
            return
        asked = read_request(body, admitted.account)
        if isinstance(asked, Invalid):
            outcome.reason, outcome.answer = "invalid", invalid(asked)
            return
        await self._ask(request, asked, outcome)

    async def _admitted(self, request: web.Request) -> Principal | Refused:
        if request.method != hdrs.METH_POST:
            return Refused.METHOD
        authorization = request.headers.getall(hdrs.AUTHORIZATION, ())
        return self._doorkeeper.recognize(authorization) or await self._doorkeeper.admit(authorization)

    async def _body(self, request: web.Request) -> bytes | Refused:
        headers = request.headers
        media_type = headers.get(hdrs.CONTENT_TYPE, "")
        if media_type not in MEDIA_TYPES and media_type.partition(";")[0].strip().lower() not in MEDIA_TYPES:
            return Refused.MEDIA_TYPE
        if hdrs.CONTENT_ENCODING in headers:
            return Refused.CONTENT_CODING
        body = await read_body(request, self._body_limit_bytes)
        if request.rel_url.raw_query_string and not isinstance(body, Refused):
            return Refused.QUERY_STRING
        return body

    async def _ask(self, request: web.Request, asked: IsvRequest, outcome: _Outcome) -> None:
        command = asked.command
        outcome.action = command.type
        command_id = outcome.command_id = CommandId(new_id())
        if asked.unreadable_previous_body:
            log.warning(
                "gateway.previous_body.ignored",
                account=command.account,
                correlation_id=command_id,
                reason="not Base64",
            )
        reply = await self._bus.ask(command, command_id=command_id, trace_parent=trace_parent_of(request))
        if isinstance(reply, Reply):
            _tell(reply, command.number, outcome)
        else:
            outcome.refuse(reply)


def _tell(reply: Reply, number: str, outcome: _Outcome) -> None:
    """Put `reply` into HTTP words (docs/protocols/isv-endpoint.md 5)."""
    match reply.status:
        case ReplyStatus.LICENSE_BODY:
            answer = license_body(reply.meta, reply.body)
            if answer is None:  # never without its expiry date, never empty (docs/protocols/isv-endpoint.md 5.1)
                outcome.refuse(Refused.INTERNAL)
            else:
                outcome.answer = answer
        case ReplyStatus.TERMINATED:
            outcome.answer = TERMINATED
        case ReplyStatus.ALREADY_TERMINATED:
            outcome.answer = termination_note(number, "already_terminated")
        case ReplyStatus.TOMBSTONE_RECORDED:
            outcome.answer = termination_note(number, "tombstone_recorded")
        case ReplyStatus.USAGE_TOLD:
            outcome.answer = usage_report(reply.body)
        case ReplyStatus.REJECTED:
            _tell_rejection(reply, outcome)
        case ReplyStatus.EXPIRED:
            outcome.refuse(Unanswered.NOT_FINISHED)
        case (
            ReplyStatus.UNREADABLE
            | ReplyStatus.PENDING
            | ReplyStatus.IN_LINE
            | ReplyStatus.NOTED
            | ReplyStatus.KEY_STATE
        ):
            outcome.refuse(Refused.INTERNAL)  # all but the first are never sent to this endpoint
        case _:
            assert_never(reply.status)


def _tell_rejection(reply: Reply, outcome: _Outcome) -> None:
    rejection = rejected(reply)
    if rejection is None:
        outcome.refuse(Refused.INTERNAL)
    else:
        code, outcome.answer = rejection
        outcome.reason = code.value

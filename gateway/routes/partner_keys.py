"""`/30/keys…`, Partner API 3.0: the first failed check answers, in the order of docs/protocols/partner-api.md 5.6.

Reading asks `LicenseQueries`; everything that changes a key becomes a command for the license workers.
"""

import re
from typing import Protocol

from aiohttp import hdrs, web

from gateway.auth import Doorkeeper
from gateway.circuit import Circuit, Machine
from gateway.command_bus import Bus
from gateway.key_directory import KeyDirectory
from gateway.partner_problems import faulty, plan_answer, refused, rejected
from gateway.problems import Refused, Unanswered
from gateway.routes.isv import CLOSING, trace_parent_of
from gateway.routes.journal import Journal
from gateway.routes.partner_calls import WITH_BODY, Action, Call, Place, command_of, read_call, read_place, unknown_key
from gateway.routes.request_body import read_body, refuse_doubtful_framing
from gateway.routes.whole_response import DateLine, WholeResponse
from gateway.wire.answer import Answer
from gateway.wire.partner_answers import (
    activations_answer,
    admits_json,
    is_json,
    key_file_answer,
    location_head,
    state_answer,
)
from gateway.wire.partner_errors import Fault, FaultType
from gateway.wire.partner_query import ALL_PARAMETERS, parameter_fault, read_address, read_query
from shared.clock import SystemClock
from shared.contracts.envelope import new_id
from shared.contracts.identifiers import CommandId
from shared.contracts.key_commands import KeyReference
from shared.contracts.replies import Reply, ReplyStatus
from shared.domain.key_queries import ActivationsLeft, FoundKey, KeyFile, KeyFilter
from shared.errors import UnavailableError
from shared.security.accounts import Principal

PATH = r"/30/{tail:[\s\S]*}"
IDEMPOTENCY_KEY = "Idempotency-Key"
OK, CREATED, ACCEPTED = 200, 201, 202

_REQUEST_NAME = re.compile(r"[\x21-\x7e]{1,255}")


class LicenseQueries(Protocol):
    """What can be read about keys. Each raises `UnavailableError`, and sees only keys that `account` may see."""

    async def structure(self, account: str, key: KeyReference) -> bytes | None:
        """Return the full structure as JSON, None when there is no such key."""
        ...

    async def search(self, account: str, wanted: KeyFilter) -> bytes | None:
        """Return the short structures of all keys that fit, as a JSON array in rising key id; None for too many."""
        ...

    async def key_file(self, account: str, key: KeyReference) -> KeyFile | None:
        """Return the document that a server installs, None when there is no such key."""
        ...

    async def activations(self, account: str, key: KeyReference) -> ActivationsLeft | None:
        """Return how often the key may still be activated this month, None when there is no such key."""
        ...


class KeyNumbers(Protocol):
    """Where the numbers of new keys come from."""

    async def next(self) -> str:
        """Return a number that nobody else gets. Raises `UnavailableError`."""
        ...


class _Outcome:
    """What became of one request, for its answer and its journal line."""

    __slots__ = ("account", "action", "answer", "closing", "command_id", "reason")

    def __init__(self) -> None:
        self.action = "partner"
        self.account = ""
        self.reason = ""
        self.closing = False
        self.command_id: CommandId | None = None
        self.answer = faulty(Fault(FaultType.INTERNAL))

    def fail(self, fault: Fault) -> None:
        self.reason = fault.type.name.lower()
        self.answer = faulty(fault)

    def refuse(self, reason: Refused | Unanswered) -> None:
        self.fail(refused(reason))
        self.reason = reason.value
        self.closing = reason in CLOSING


class PartnerEndpoint:
    """The handler of everything below `/30/`."""

    __slots__ = (
        "_body_limit_bytes",
        "_bus",
        "_circuit",
        "_clock",
        "_date",
        "_directory",
        "_doorkeeper",
        "_journal",
        "_numbers",
        "_queries",
        "_scheme",
    )

    def __init__(  # noqa: PLR0913 - one argument per collaborator, all by name
        self,
        *,
        bus: Bus,
        doorkeeper: Doorkeeper,
        directory: KeyDirectory,
        queries: LicenseQueries,
        numbers: KeyNumbers,
        circuit: Circuit,
        journal: Journal,
        clock: SystemClock,
        date_line: DateLine,
        body_limit_bytes: int,
        scheme: str,
    ) -> None:
        """`doorkeeper` lets in accounts of the role `partner`; `scheme` is that of addresses as callers see them."""
        self._bus = bus
        self._doorkeeper = doorkeeper
        self._directory = directory
        self._queries = queries
        self._numbers = numbers
        self._circuit = circuit
        self._journal = journal
        self._clock = clock
        self._date = date_line
        self._body_limit_bytes = body_limit_bytes
        self._scheme = scheme

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer one request, whatever its path and method."""
        refuse_doubtful_framing(request)
        started = self._clock.monotonic()
        outcome = _Outcome()
        try:
            await self._answer(request, outcome)
        except UnavailableError:
            outcome.refuse(Unanswered.DATABASE)
        now = self._clock.monotonic()
        self._journal.note(
            outcome.action,
            outcome.answer.status,
            now - started,
            account=outcome.account,
            reason=outcome.reason,
            correlation_id=outcome.command_id,
        )
        return WholeResponse(outcome.answer, self._date.current(now), close=outcome.closing)

    async def _answer(self, request: web.Request, outcome: _Outcome) -> None:
        authorization = request.headers.getall(hdrs.AUTHORIZATION, ())
        admitted = self._doorkeeper.recognize(authorization) or await self._doorkeeper.admit(authorization)
        if isinstance(admitted, Refused):
            outcome.refuse(admitted)
            return
        outcome.account = admitted.account
        place = read_place(request.rel_url.raw_path, request.method)
        if isinstance(place, Fault):
            outcome.fail(place)
            return
        outcome.action = place.action.value
        call = await self._call(request, place, admitted)
        if isinstance(call, Fault):
            outcome.fail(call)
        elif isinstance(call, Refused):
            outcome.refuse(call)
        elif self._circuit.is_down(Machine.DATABASE):
            outcome.refuse(Unanswered.DATABASE)
        else:
            await self._carry_out(request, place, call, outcome)

    async def _call(self, request: web.Request, place: Place, principal: Principal) -> Call | Fault | Refused:
        """Return what is asked, after all checks that need no look at the key (5.6, steps 3 to 6)."""
        headers, body = request.headers, b""
        if (
            place.action in WITH_BODY
            and request.can_read_body
            and (not is_json(headers.getall(hdrs.CONTENT_TYPE, ())) or hdrs.CONTENT_ENCODING in headers)
        ):
            return Refused.MEDIA_TYPE
        if place.action is not Action.RETRIEVE and not admits_json(headers.getall(hdrs.ACCEPT, ())):
            return Fault(FaultType.NOT_ACCEPTABLE)
        if request.can_read_body:
            arrived = await read_body(request, self._body_limit_bytes)
            if isinstance(arrived, Refused):
                return arrived
            body = arrived
        query = read_query(request.rel_url.raw_query_string)
        if isinstance(query, Fault):
            return query
        names = headers.getall(IDEMPOTENCY_KEY, ())
        if len(names) > 1 or (names and _REQUEST_NAME.fullmatch(names[0]) is None):
            return parameter_fault(IDEMPOTENCY_KEY)
        return read_call(
            place.action,
            account=principal.account,
            query=query,
            path=request.rel_url.raw_path,
            body=body,
            request_name=names[0] if names else None,
        )

    async def _carry_out(self, request: web.Request, place: Place, call: Call, outcome: _Outcome) -> None:
        if call.action is Action.SEARCH:
            found = await self._queries.search(call.asked_by, call.filter)
            if found is None:
                outcome.fail(parameter_fault(ALL_PARAMETERS))
            else:
                outcome.answer = state_answer(OK, found)
            return
        if call.action is Action.CREATE:
            number = await self._numbers.next()
            new_key = FoundKey(account=call.asked_by, number=number, key_id=int(number))
            await self._command(request, call, new_key, outcome)
            return
        reference = read_address(place.key)
        if reference is None:
            outcome.fail(unknown_key(place.key))
        elif call.action in {Action.GET, Action.RETRIEVE, Action.READ_ACTIVATIONS}:
            answer = await self._read(call, reference)
            if answer is None:
                outcome.fail(unknown_key(place.key))
            else:
                outcome.answer = answer
        else:
            key = await self._directory.find(call.asked_by, reference)
            if key is None:
                outcome.fail(unknown_key(place.key))
            else:
                await self._command(request, call, key, outcome)

    async def _read(self, call: Call, key: KeyReference) -> Answer | None:
        """Return what is known of `key`, None when nothing is."""
        account, queries = call.asked_by, self._queries
        if call.action is Action.RETRIEVE:
            file = await queries.key_file(account, key)
            return None if file is None else key_file_answer(file, previous_version=call.previous_version)
        if call.action is Action.READ_ACTIVATIONS:
            left = await queries.activations(account, key)
            return None if left is None else activations_answer(left)
        structure = await queries.structure(account, key)
        return None if structure is None else state_answer(OK, structure)

    async def _command(self, request: web.Request, call: Call, key: FoundKey, outcome: _Outcome) -> None:
        command_id = outcome.command_id = CommandId(new_id())
        reply = await self._bus.ask(command_of(call, key), command_id=command_id, trace_parent=trace_parent_of(request))
        if not isinstance(reply, Reply):
            outcome.refuse(reply)
            return
        match reply.status:
            case ReplyStatus.KEY_STATE if call.dry_run:
                plan = plan_answer(reply)
                if plan is None:
                    outcome.refuse(Refused.INTERNAL)
                else:
                    outcome.answer = plan
            case ReplyStatus.KEY_STATE if reply.meta.isdigit():
                outcome.answer = self._done(request, call.action, reply)
            case ReplyStatus.REJECTED:
                rejection = rejected(reply)
                if rejection is None:
                    outcome.refuse(Refused.INTERNAL)
                else:
                    code, outcome.answer = rejection
                    outcome.reason = code.value
            case ReplyStatus.EXPIRED:
                outcome.refuse(Unanswered.NOT_FINISHED)
            case _:
                outcome.refuse(Refused.INTERNAL)

    def _done(self, request: web.Request, action: Action, reply: Reply) -> Answer:
        match action:
            case Action.CREATE:
                host = request.headers.get(hdrs.HOST, "")
                return state_answer(CREATED, reply.body, location_head(self._scheme, host, reply.meta))
            case Action.SET_ACTIVATIONS:
                return state_answer(ACCEPTED, b"")
            case _:
                return state_answer(OK, reply.body)

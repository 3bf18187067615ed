"""The Partner API's handler with everything behind it played: what a reply, its absence or a dead machine becomes."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace

import pytest
import pytest_asyncio
from aiohttp import ClientSession
from prometheus_client import CollectorRegistry

from gateway.auth import Doorkeeper
from gateway.circuit import Circuit, Machine
from gateway.key_directory import TRUSTED_SECONDS, NumberBlocks, RememberingKeyDirectory
from gateway.partner_problems import PROBLEMS, problem
from gateway.problems import Refused, Unanswered
from gateway.routes.journal import Journal
from gateway.routes.partner_keys import PartnerEndpoint
from gateway.routes.public import public_application
from gateway.routes.whole_response import DateLine
from gateway.server import PublicServer
from gateway.wire.partner import WIRE_NAMES
from gateway.wire.partner_errors import FaultType
from shared.clock import MachineClock
from shared.contracts.codec import encode_details, encode_key_plan
from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import CommandId
from shared.contracts.key_commands import CreateKey, KeyMember, KeyMembers, KeyReference, ModifyKey, PlanKey, RenewKey
from shared.contracts.outcomes import PARTNER_ERROR_TYPES, RejectionCode
from shared.contracts.replies import KeyPlan, Reply, ReplyStatus
from shared.domain.key_queries import ActivationsLeft, FoundKey, KeyFile, KeyFilter
from shared.errors import UnavailableError
from shared.security.accounts import Role
from shared.security.basic import basic_header
from shared.telemetry.metrics import GatewayMetrics
from tests.fakes.clocks import ManualSystemClock
from tests.fakes.gateway import KnownPairs

pytestmark = pytest.mark.asyncio

KEY = FoundKey(account="partner", number="00000007", key_id=7)


@dataclass
class Bus:
    """Says what it is told to."""

    reply: Reply | Unanswered | Refused = field(default_factory=lambda: Reply(ReplyStatus.KEY_STATE, b"7", b""))
    asked: list[LicenseCommand] = field(default_factory=list)

    async def ask(
        self, command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        self.asked.append(command)
        return self.reply


@dataclass
class Keys:
    """One key, 7, and all questions about it; `down`: the database does not answer."""

    down: bool = False
    finds: int = 0
    searched: list[KeyFilter] = field(default_factory=list)
    draws: int = 0

    def _look(self) -> None:
        if self.down:
            raise UnavailableError("gone")

    async def find(self, account: str, reference: KeyReference) -> FoundKey | None:
        self._look()
        self.finds += 1
        return KEY if reference.key_id == 7 else None

    async def structure(self, account: str, key: KeyReference) -> bytes | None:
        self._look()
        return b'{"keyId":7}' if key.key_id == 7 else None

    async def search(self, account: str, wanted: KeyFilter) -> bytes | None:
        self._look()
        self.searched.append(wanted)
        return None if wanted.nickname == "everybody's" else b"[]"

    async def key_file(self, account: str, key: KeyReference) -> KeyFile | None:
        return KeyFile(key_number="PLSK.00000007.0000", revision=1, body=b"body")

    async def activations(self, account: str, key: KeyReference) -> ActivationsLeft | None:
        return ActivationsLeft(key_id=7, remaining=3)

    async def draw(self, count: int) -> Sequence[int]:
        self._look()
        self.draws += 1
        return range(count * self.draws, count * self.draws + count)


class Port:
    """The public port with the Partner API alone."""

    def __init__(self) -> None:
        clock = MachineClock()
        self.bus, self.keys = Bus(), Keys()
        self.circuit = Circuit(partitions=24, budget_seconds=25)
        for machine in Machine:
            self.circuit.came_up(machine, now=clock.monotonic())
        metrics, date_line = GatewayMetrics.bound_to(CollectorRegistry()), DateLine(clock)
        pairs = KnownPairs({"partner": ("p", Role.PARTNER), "ka": ("k", Role.KA)})
        endpoint = PartnerEndpoint(
            bus=self.bus,
            doorkeeper=Doorkeeper(
                pairs,
                role=Role.PARTNER,
                circuit=self.circuit,
                metrics=metrics,
                wrong_pair=Refused.UNAUTHENTICATED,
            ),
            directory=RememberingKeyDirectory(self.keys, clock),
            queries=self.keys,
            numbers=NumberBlocks(self.keys),
            circuit=self.circuit,
            journal=Journal(metrics, clock, route="partner"),
            clock=clock,
            date_line=date_line,
            body_limit_bytes=1024,
            scheme="https",
        )
        application = public_application(
            endpoint.handle, endpoint.handle, partner_endpoint=endpoint.handle, clock=clock, date_line=date_line
        )
        self.server = PublicServer(application, connections_max=50, date_line=date_line, clock=clock)
        self.port = 0

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, str], str]:
        data = None if body is None else json.dumps(body).encode()
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given.setdefault("Content-Type", "application/json")
        async with (
            ClientSession(headers={"Authorization": basic_header("partner", "p")}) as session,
            session.request(method, f"http://127.0.0.1:{self.port}/30{path}", data=data, headers=given) as answer,
        ):
            return answer.status, dict(answer.headers), await answer.text()

    async def type_of(self, method: str, path: str, body: object = None) -> tuple[int, str]:
        status, _, text = await self.ask(method, path, body)
        return status, json.loads(text)["type"]


@pytest_asyncio.fixture
async def port() -> AsyncIterator[Port]:
    made = Port()
    made.port = await made.server.open("127.0.0.1", 0, None)
    yield made
    await made.server.close(answer_seconds=1)


PUT = ("PUT", "/keys/7", {"nickname": "n"})


async def test_commands_name_the_license_the_asker_and_whether_the_state_is_wanted(port: Port) -> None:
    await port.ask("PUT", "/keys/7?return-key-state=YES", {"nickname": "n"})
    await port.ask("GET", "/keys/7/renew")
    await port.ask("POST", "/keys", {"items": [{"item": "A"}]}, Idempotency_Key="mine")
    changed, renewed, made = port.bus.asked
    assert isinstance(changed, ModifyKey)
    assert (changed.account, changed.number, changed.asked_by) == ("partner", "00000007", "partner")
    assert changed.return_state
    assert isinstance(renewed, RenewKey)
    assert not renewed.return_state
    assert isinstance(made, CreateKey)
    assert (made.account, made.number) == ("partner", "00000100")
    assert made.idempotency is not None
    assert made.idempotency.key == "mine"


async def test_a_name_stands_for_path_body_and_parameters(port: Port) -> None:
    asked = [
        ("/keys/7/convert-to-edition?edition=web-pro", None),
        ("/keys/7/convert-to-edition?edition=web-host", None),
        ("/keys/7/convert-to-edition?edition=web-pro&return-key-state=1", None),
        ("/keys/7/renew-sus", None),
    ]
    for path, body in asked:
        await port.ask("POST", path, body, Idempotency_Key="same")
    pro, host, again, sus = (command.idempotency.body_sha256 for command in port.bus.asked)  # type: ignore[union-attr]  # all of them have one
    assert pro == again
    assert len({pro, host, sus}) == 3


async def test_a_new_key_is_answered_with_its_address_at_the_host_that_was_asked(port: Port) -> None:
    port.bus.reply = Reply(ReplyStatus.KEY_STATE, b"12345678", b"")
    status, headers, text = await port.ask("POST", "/keys", {"items": [{"item": "A"}]})
    assert (status, text) == (201, "")
    assert headers["Location"] == f"https://127.0.0.1:{port.port}/30/keys/12345678"
    assert "Content-Type" not in headers


async def test_what_has_no_reply_is_503_before_and_504_after_the_queue(port: Port) -> None:
    for unanswered in Unanswered:
        port.bus.reply = unanswered
        expected = (504, "30053") if unanswered is Unanswered.NOT_FINISHED else (503, "30052")
        assert await port.type_of(*PUT) == expected
        assert "Retry-After" in (await port.ask(*PUT))[1]


async def test_replies_that_make_no_answer(port: Port) -> None:
    for reply, expected in (
        (Reply(ReplyStatus.EXPIRED, b"", b""), (504, "30053")),
        (Reply(ReplyStatus.UNREADABLE, b"", b""), (500, "30050")),
        (Reply(ReplyStatus.LICENSE_BODY, b"2027-01-01", b"x"), (500, "30050")),
        (Reply(ReplyStatus.KEY_STATE, b"7\r\nX: y", b""), (500, "30050")),
        (Reply(ReplyStatus.REJECTED, b"some_day_maybe", b""), (500, "30050")),
        (Reply(ReplyStatus.REJECTED, b"key_conflict", b"{"), (500, "30050")),
        (Refused.TOO_LARGE, (413, "30046")),
    ):
        port.bus.reply = reply
        assert await port.type_of(*PUT) == expected, reply


async def test_every_rejection_has_a_type_of_the_catalog_and_says_what_it_is_about(port: Port) -> None:
    details = dict.fromkeys(
        ("number", "field", "parameter", "pairs", "owner", "parent", "item", "address", "configuration", "uid", "key"),
        "this",
    )
    for code, type_ in PARTNER_ERROR_TYPES.items():
        port.bus.reply = Reply(ReplyStatus.REJECTED, code.value.encode(), encode_details(details))
        status, _, text = await port.ask(*PUT)
        document = json.loads(text)
        assert (str(status), document["code"], document["type"]) == (document["code"], str(status), str(type_)), code
        if type_ < 30040:
            assert "this." in document["details"], code


async def test_every_fault_of_the_gateway_has_a_row_in_the_catalog() -> None:
    assert {int(fault.value) for fault in FaultType} | set(PARTNER_ERROR_TYPES.values()) == set(PROBLEMS)
    assert json.loads(problem(30025, {"configuration": "999"}).body) == {
        "code": "400",
        "type": "30025",
        "message": "The product configuration is not available to the owner of the key.",
        "details": "Product configuration = 999.",
    }
    assert len(json.loads(problem(30022, {"item": "x" * 5000}).body)["details"]) < 1100


@pytest.mark.parametrize(("member", "shown"), WIRE_NAMES.items())
async def test_a_refused_member_is_told_as_requests_write_it(port: Port, member: KeyMember, shown: str) -> None:
    port.bus.reply = Reply(ReplyStatus.REJECTED, b"key_value_invalid", encode_details({"field": member}))

    assert json.loads((await port.ask(*PUT))[2])["details"] == f"Field = {shown}."


async def test_all_key_rejections_have_a_type() -> None:
    assert {code for code in RejectionCode if code.name.startswith("KEY_")} <= set(PARTNER_ERROR_TYPES)


async def test_without_a_database_nothing_is_asked_and_nothing_hangs(port: Port) -> None:
    await port.ask(*PUT)
    port.keys.down = True
    assert await port.type_of("GET", "/keys/7") == (503, "30052")
    assert await port.type_of("GET", "/keys") == (503, "30052")
    assert (await port.ask(*PUT))[0] == 200  # the directory remembers
    assert await port.type_of("PUT", "/keys/8", {"nickname": "n"}) == (503, "30052")
    assert await port.type_of("POST", "/keys", {"items": [{"item": "A"}]}) == (503, "30052")
    port.keys.down = False
    port.circuit.went_down(Machine.DATABASE)
    assert await port.type_of("GET", "/keys/7") == (503, "30052")
    assert await port.type_of("PUT", "/keys/7", {}) == (400, "30001")  # what cannot be read stays that


async def test_reads_do_not_queue(port: Port) -> None:
    assert (await port.ask("GET", "/keys/7"))[2] == '{"keyId":7}'
    assert (await port.ask("GET", "/keys"))[2] == "[]"
    assert (await port.ask("GET", "/keys/7/remaining-activations"))[2] == '[{"keyNumber":7,"remainingActivations":3}]'
    _, headers, text = await port.ask("GET", "/keys/7/retrieve?previous-version=1")
    assert (headers["Content-Type"], text) == ("application/octet-stream", "body")
    assert port.bus.asked == []


async def test_a_dry_run_is_a_question_of_its_own_and_shows_the_refusal_as_the_request_would_get_it(port: Port) -> None:
    plan = KeyPlan(operations=("IPBIND",), conflicts=())
    port.bus.reply = Reply(ReplyStatus.KEY_STATE, b"7", encode_key_plan(plan))
    status, headers, told = await port.ask("PUT", "/keys/7?dry-run=1", {"nickname": "n"}, Idempotency_Key="mine")
    assert (status, told) == (200, '{"operations":["IPBIND"],"conflicts":[],"refusal":null}')
    assert headers["Content-Type"].startswith("application/json")
    (asked,) = port.bus.asked
    assert asked == PlanKey(
        account="partner",
        number="00000007",
        asked_by="partner",
        members=KeyMembers(given=(KeyMember.NICKNAME,), nickname="n"),
    )

    refusal, details = RejectionCode.KEY_ADDRESS_TAKEN, {"address": "203.0.113.7"}
    refused = replace(plan, refusal=refusal, details=details)
    port.bus.reply = Reply(ReplyStatus.KEY_STATE, b"7", encode_key_plan(refused))
    foretold = json.loads((await port.ask("PUT", "/keys/7?dry-run=1", {"nickname": "n"}))[2])["refusal"]
    port.bus.reply = Reply(ReplyStatus.REJECTED, refusal.value.encode(), encode_details(details))
    assert foretold == json.loads((await port.ask(*PUT))[2])
    port.bus.reply = Reply(ReplyStatus.KEY_STATE, b"7", b'{"operations":[],"conflicts":[],"refusal":"some_day"}')
    assert await port.type_of("PUT", "/keys/7?dry-run=1", {"nickname": "n"}) == (500, "30050")


async def test_a_body_that_is_missing_is_told_as_that_and_not_as_one_of_a_wrong_kind(port: Port) -> None:
    for method, path in (("PUT", "/keys/7"), ("POST", "/keys")):
        assert await port.type_of(method, path) == (400, "30001")
        assert (await port.ask(method, path, {"nickname": "n"}, Content_Type="text/plain"))[0] == 415


async def test_a_search_writes_an_address_as_a_binding_does(port: Port) -> None:
    for asked in ("%20203.0.113.7%20", "2001:DB8::0017", "no+address"):
        await port.ask("GET", f"/keys?ip-address-binding={asked}")
    assert [wanted.address for wanted in port.keys.searched] == ["203.0.113.7", "2001:db8::17", "no address"]


async def test_a_search_that_finds_too_many_keys_is_refused(port: Port) -> None:
    assert await port.type_of("GET", "/keys?nickname=everybody's") == (400, "30004")


async def test_idempotency_keys_that_are_none(port: Port) -> None:
    for name in ("a b", "é", "x" * 256):
        status, _, text = await port.ask("PUT", "/keys/7", {"nickname": "n"}, Idempotency_Key=name)
        assert (status, json.loads(text)["details"]) == (400, "Parameter = Idempotency-Key.")


async def test_the_directory_remembers_what_it_found_for_a_while_and_never_what_it_did_not() -> None:
    keys, clock = Keys(), ManualSystemClock()
    directory = RememberingKeyDirectory(keys, clock)
    for _ in range(3):
        assert await directory.find("partner", KeyReference(key_id=7)) == KEY
        assert await directory.find("partner", KeyReference(key_id=8)) is None
    assert keys.finds == 4
    await directory.find("other", KeyReference(key_id=7))
    assert keys.finds == 5
    clock.seconds += TRUSTED_SECONDS
    await directory.find("partner", KeyReference(key_id=7))
    assert keys.finds == 6


async def test_numbers_come_in_blocks_and_once_each_however_many_ask_at_once() -> None:
    keys = Keys()
    blocks = NumberBlocks(keys)
    drawn = await asyncio.gather(*(blocks.next() for _ in range(250)))
    assert len(set(drawn)) == 250
    assert keys.draws == 3
    assert drawn[0] == "00000100"

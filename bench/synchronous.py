"""Baseline B: a plain synchronous endpoint. aiohttp, asyncpg, one transaction per request, no Kafka, no batches.

Written to be good at what it is: the same parser, rules, signer and schema as the system, a pool of connections with
prepared statements, two round trips per request (one look-up, one statement that writes everything and is its own
transaction). It makes the same writes: license, revision with a signed body, operation, stored result, outbox, audit.

`python -m bench.synchronous http JSON` runs the process.
"""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from datetime import date, timedelta
from email.utils import format_datetime
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import orjson
import uvloop
from aiohttp import web

from bench.echo import say_ready
from gateway.wire.answer import Invalid
from gateway.wire.isv import read_request
from shared.clock import MachineClock
from shared.contracts.commands import PurchaseLicense
from shared.contracts.envelope import Envelope, day_of, new_id
from shared.contracts.identifiers import CommandId
from shared.database.lane import INDEX_PLANS
from shared.database.migrate import migrate
from shared.domain.case import Rules
from shared.domain.catalog import Catalog, Product
from shared.domain.effects import CommandEffect
from shared.domain.fingerprint import fingerprint_of
from shared.domain.term import expires_at
from shared.security.license_body import JwsSigner
from shared.security.signing_keys import SigningKey
from workers.license.case_file import CaseFile, ReceivedCommand
from workers.license.desk import Desk

LOOK_UP = Path(__file__).with_name("sql").joinpath("look_up.sql").read_text(encoding="ascii")
ISSUE = Path(__file__).with_name("sql").joinpath("issue.sql").read_text(encoding="ascii")
SERVER_SETTINGS = {"timezone": "UTC", "jit": "off", **INDEX_PLANS}
"""As the system's own connections: a plan made on empty tables must not read whole ones later."""
ACQUIRE_SECONDS = 25.0
RULES = Rules(catalog=Catalog(version=1, products={"Bronze": Product(sku="Bronze")}))


@dataclass(frozen=True, slots=True, kw_only=True)
class SynchronousPlan:
    """How the process of baseline B runs."""

    database: str = field(repr=False)
    port: int
    authorization: str = field(repr=False)
    account: str
    pool_size: int


class Shop:
    """Sells licenses straight into the database."""

    def __init__(self, plan: SynchronousPlan, pool: "asyncpg.Pool[asyncpg.Record]") -> None:
        self._plan = plan
        self._pool = pool
        self._clock = MachineClock()
        self._signer = JwsSigner(SigningKey.generate())

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one PURCHASE."""
        if request.headers.get("Authorization") != self._plan.authorization:
            return _refusal(403, "these credentials are not allowed to use this endpoint")
        read = read_request(await request.read(), self._plan.account)
        if isinstance(read, Invalid):
            return _refusal(400, read.reason)
        if not isinstance(read.command, PurchaseLicense):
            return _refusal(400, "only PURCHASE is sold here")
        return await self._purchase(read.command)

    async def _purchase(self, command: PurchaseLicense) -> web.Response:
        license_id = f"{command.account}:{command.number}"
        async with self._pool.acquire(timeout=ACQUIRE_SECONDS) as connection:
            held = await connection.fetchrow(LOOK_UP, license_id, fingerprint_of(command))
            if held is not None:
                return _sold(held["body"], held["expires_on"]) if held["known"] else _refusal(409, "it exists already")
            effect = self._decide(command)
            if effect.write is None or effect.revision is None:
                return _refusal(400, effect.reply.meta.decode())
            try:
                await connection.execute(ISSUE, *_columns(effect))
            except asyncpg.UniqueViolationError:
                held = await connection.fetchrow(LOOK_UP, license_id, fingerprint_of(command))
                return _sold(held["body"], held["expires_on"]) if held else _refusal(500, "the license came and went")
        return _sold(effect.revision.body, effect.revision.expires_on)

    def _decide(self, command: PurchaseLicense) -> CommandEffect:
        now = self._clock.now()
        command_id = CommandId(new_id())
        envelope = Envelope(
            command_id=command_id,
            correlation_id=command_id,
            causation_id=None,
            command=command,
            deadline_at=now + timedelta(seconds=ACQUIRE_SECONDS),
            occurred_at=now,
        )
        desk = Desk(rules=RULES, signer=self._signer, issuer="bench", business_now=now, system_now=now)
        payload = orjson.dumps(command, option=orjson.OPT_SORT_KEYS)
        case_file = CaseFile(account=command.account, number=command.number)
        received = ReceivedCommand(envelope, sha256(payload).digest(), 0)
        return case_file.with_write(case_file.handle(received, desk).effect)


def _columns(effect: CommandEffect) -> tuple[object, ...]:
    """Return the parameters of `issue.sql` in their order."""
    write, revision, audit, operation = effect.write, effect.revision, effect.audit, effect.operation
    assert write and revision and audit and operation  # noqa: S101, PT018 - a purchase leaves all four
    license, event = write.license, effect.events[0]
    return (
        effect.license_id, license.account, license.number, write.activation_code, license.product, license.test,
        license.start_on, license.expires_on, license.reg_name, audit.entry_sha256, effect.handled_at,
        revision.body_sha256, revision.body, operation[0], effect.command_id, day_of(effect.command_id),
        effect.payload_sha256, effect.reply.meta, event.event_id, event.value, audit.previous_sha256, audit.entry,
    )  # fmt: skip


def _sold(body: bytes, expires_on: date) -> web.Response:
    expiry = format_datetime(expires_at(expires_on) - timedelta(days=1), usegmt=True)
    return web.Response(body=body, content_type="application/octet-stream", headers={"X-APS-Expiration-Date": expiry})


def _refusal(status: int, reason: str) -> web.Response:
    return web.Response(status=status, text=f"Error: {reason}.")


async def prepare_database(server_url: str) -> str:
    """Make a fresh database `bench_b` with the present schema beside the system's own; return its address."""
    connection = await asyncpg.connect(server_url)
    try:
        await connection.execute("DROP DATABASE IF EXISTS bench_b WITH (FORCE)")
        await connection.execute("CREATE DATABASE bench_b")
    finally:
        await connection.close()
    url = urlsplit(server_url)._replace(path="/bench_b").geturl()
    await migrate(url)
    return url


async def leave_as_it_is(_connection: object) -> None:
    """Spare the reset query at each return to the pool: nothing here changes a session."""


async def application(plan: SynchronousPlan) -> web.Application:
    """Return the endpoint with its connections open."""
    pool = await asyncpg.create_pool(
        plan.database,
        min_size=plan.pool_size,
        max_size=plan.pool_size,
        max_inactive_connection_lifetime=0,
        server_settings=SERVER_SETTINGS,
        reset=leave_as_it_is,
    )

    async def close(_application: web.Application) -> None:
        await pool.close()

    application = web.Application()
    application.router.add_post("/isv", Shop(plan, pool).handle)
    application.on_cleanup.append(close)
    return application


def main() -> None:
    """Run the process with the plan in the second argument."""
    plan = SynchronousPlan(**json.loads(sys.argv[2]))
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    web.run_app(application(plan), host="127.0.0.1", port=plan.port, access_log=None, print=say_ready, loop=loop)


if __name__ == "__main__":
    main()

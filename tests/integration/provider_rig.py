"""Provider orders on a real PostgreSQL and a real sandbox: stored as the license worker stores them, carried by the
real runner, rung for as the scheduler does. Only Kafka is played: outcomes are collected and taken in at once."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from uuid import UUID

import asyncpg
from pydantic import SecretStr

from shared.clock import MachineClock
from shared.contracts.envelope import new_id
from shared.contracts.identifiers import CommandId, license_id
from shared.contracts.replies import ReplyStatus
from shared.contracts.topics import LICENSE_EVENTS
from shared.database.pool import Pool, open_pool
from shared.database.provider_accounts import PostgresProviderAccounts
from shared.database.provider_orders import PostgresProviderOrders
from shared.database.provider_oversight import PostgresProviderOversight
from shared.database.provider_pauses import PauseTimes
from shared.database.provider_writes import write_provider_parts
from shared.domain.catalog import FIRST_PROVIDER_ACCOUNT, BodySource, Product, Provider, ProviderOffer
from shared.domain.effects import CommandEffect, NewOrder, StoredReply
from shared.domain.provider_operation import Elid, ProviderOperation, ServiceKind
from shared.domain.provider_order import OrderState
from shared.domain.provider_record import ClaimLimits, ProviderOrder
from shared.domain.provider_settling import ReleasePolicy, SettlingRules
from shared.domain.provisioning import ServerData, Step, StepKind, operation_of
from shared.errors import UnavailableError
from tests.integration.sandbox_rig import PASSWORD, USER, SandboxRig, running_sandbox
from workers.provider.assembly import order_runner
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.client import IspLicenseClient
from workers.provider.isplicense.pacing import CallPacer
from workers.provider.observing import LoggingProviderObserver
from workers.provider.ports import ProviderClient
from workers.provider.runner import OrderRunner

CLOCK = MachineClock()
LITE = Product(
    sku="ISPMGR6-LITE",
    provider=Provider.ISPLICENSE,
    offer=ProviderOffer(order_function="softexternal.order.param", pricelist=546),
)
BUSINESS = Product(
    sku="ISPMGR6-BUSINESS",
    provider=Provider.ISPLICENSE,
    offer=ProviderOffer(order_function="softexternal.order.param", pricelist=549, node_code=550),
)
PLESK = Product(
    sku="PLESK12-WEB-ADMIN",
    provider=Provider.ISPLICENSE,
    offer=ProviderOffer(order_function="parallelslic.order.param", pricelist=250),
)
MODULE = Product(
    sku="SOFTACULOUS-ISPMGR5",
    provider=Provider.ISPLICENSE,
    offer=ProviderOffer(order_function="addition.order.param", pricelist=356),
)
KEYED = replace(LITE, body=BodySource.PROVIDER_KEY)
RULES = SettlingRules(
    policy=ReleasePolicy.AUTO,
    quiet_seconds=2.0,
    reads_apart_seconds=0.3,
    fast_every_seconds=0.3,
    fast_for_seconds=60,
    give_up_after_seconds=90.0,
)
LIMITS = ClaimLimits(money_in_flight_max=8, unresolved_max=8, send_window_seconds=1.0)
TIMES = PauseTimes(breaker_seconds=2.0, back_off_seconds=0.5, losses_seconds=0.2)
LONG_BREAKER = replace(TIMES, breaker_seconds=600.0)
"""Where the pause itself is looked at: it must not end before that."""


@dataclass(slots=True)
class TakingAnnouncer:
    """Takes outcomes in as the license worker would: the order is settled by it."""

    pool: Pool
    told: list[ProviderOrder] = field(default_factory=list)

    async def announce(self, order: ProviderOrder) -> None:
        self.told.append(order)
        async with self.pool.acquire() as connection:
            await connection.execute(
                "UPDATE provider_order SET settled_at = clock_timestamp() WHERE order_id = $1 AND settled_at IS NULL",
                order.order_id,
            )


@dataclass(slots=True, kw_only=True)
class ProviderRig:
    """One provider account under test."""

    database_url: str
    pool: Pool
    book: PostgresProviderOrders
    oversight: PostgresProviderOversight
    announcer: TakingAnnouncer
    runner: OrderRunner
    client: ProviderClient
    sandbox: SandboxRig
    _numbers: int = 0

    async def store(  # noqa: PLR0913 - what orders differ in
        self,
        product: Product = LITE,
        *,
        kind: StepKind = StepKind.ORDER,
        elid: Elid | None = None,
        number: str | None = None,
        operation: ProviderOperation | None = None,
        address: str | None = None,
        nodes: int | None = None,
        parent: Elid | None = None,
        expires_before: date | None = None,
        account: str = FIRST_PROVIDER_ACCOUNT,
    ) -> UUID:
        """Store an order as the license worker does and return its id."""
        self._numbers += 1
        number = number or f"{self._numbers:08d}"
        data = ServerData(address=address or f"203.0.113.{self._numbers % 250 + 1}", label=f"web-{number}", nodes=nodes)
        step = Step(
            kind=kind,
            product=product,
            data=data,
            elid=elid,
            parent=parent,
            expires_before=expires_before,
            account=account,
        )
        order = NewOrder(
            order_id=new_id(),
            account="ka",
            number=number,
            step=step,
            operation=operation or operation_of(step, elid),
        )
        effect = CommandEffect(
            command_id=CommandId(new_id()),
            license_id=license_id("ka", number),
            payload_sha256=bytes(32),
            reply=StoredReply(status=ReplyStatus.PENDING),
            handled_at=CLOCK.now(),
            orders=(order,),
        )
        connection = await asyncpg.connect(self.database_url)
        try:
            async with connection.transaction():
                await write_provider_parts(connection, [effect], LICENSE_EVENTS)
        finally:
            await connection.close()
        return order.order_id

    async def order(self, order_id: UUID) -> ProviderOrder:
        """Return the stored order."""
        order = await self.book.load(order_id)
        assert order is not None
        return order

    async def settled(self, *order_ids: UUID, seconds: float = 60.0) -> list[ProviderOrder]:
        """Ring for what is due until the orders are settled or `manual`; return them."""
        ends = CLOCK.monotonic() + seconds
        for order_id in order_ids:
            await self.carry(order_id)
        while True:
            orders = [await self.order(order_id) for order_id in order_ids]
            if all(order.settled_at is not None or order.state is OrderState.MANUAL for order in orders):
                return orders
            told = [f"{order.state} attempt {order.attempt} due {order.due_at}" for order in orders]
            assert CLOCK.monotonic() < ends, f"not settled: {told}"
            await self.ring()
            await CLOCK.sleep(0.05)

    async def ring(self) -> None:
        """Carry what is due."""
        due = await self.book.ring(orders_max=64, again_seconds=2.0)
        await asyncio.gather(*(self.carry(each.order_id) for each in due))

    async def carry(self, order_id: UUID) -> None:
        """Carry an order; one that meets a busy database is rung for again, as the crew's are."""
        with suppress(UnavailableError):
            await self.runner.carry(order_id)

    async def canary(self, product: Product = LITE, **facts: object) -> ProviderOrder:
        """Buy a service in peace and let it be old enough to prove that a list is complete."""
        (order,) = await self.settled(await self.store(product, **facts))  # type: ignore[arg-type]
        assert order.state is OrderState.CONFIRMED
        await self.execute("UPDATE provider_order SET decided_at = decided_at - interval '1 hour'")
        return order

    async def execute(self, statement: str, *arguments: object) -> None:
        """Change the database behind everybody's back."""
        async with self.pool.acquire() as connection:
            await connection.execute(statement, *arguments)

    async def value(self, query: str, *arguments: object) -> object:
        """Ask the database one question."""
        async with self.pool.acquire() as connection:
            return await connection.fetchval(query, *arguments)

    async def steps(self, order_id: UUID) -> list[str]:
        """Return the audit of an order."""
        async with self.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT trigger, state_after FROM provider_step WHERE order_id = $1 ORDER BY id", order_id
            )
        return [f"{row['trigger']}>{row['state_after']}" for row in rows]

    async def charges_per_service(self) -> dict[int, int]:
        """Return how often the sandbox charged for each service."""
        counted: dict[int, int] = {}
        for charge in await self.sandbox.charges():
            counted[charge["license"]] = counted.get(charge["license"], 0) + 1
        return counted

    def another_runner(self, client: ProviderClient | None = None, limits: ClaimLimits = LIMITS) -> OrderRunner:
        """Return the runner of a second worker process."""
        return a_runner(self.book, client or self.client, self.announcer, limits=limits)


def a_runner(
    book: PostgresProviderOrders,
    client: ProviderClient,
    announcer: TakingAnnouncer,
    *,
    limits: ClaimLimits = LIMITS,
    rules: SettlingRules = RULES,
    provider_account: str = FIRST_PROVIDER_ACCOUNT,
) -> OrderRunner:
    """Return a runner with the rig's short times."""
    return order_runner(
        book,
        client,
        announcer,
        limits=limits,
        rules=rules,
        clock=CLOCK,
        chance=lambda: 0.5,
        provider_account=provider_account,
    )


def a_client(
    sandbox: SandboxRig, *, user: str = USER, password: str = PASSWORD, money_timeout_seconds: float = 2.0
) -> IspLicenseClient:
    """Return a client of the sandbox with short times."""
    account = PanelAccount(
        base_url=sandbox.addresses.url,
        user=user,
        password=SecretStr(password),
        loopback_allowed=True,
        read_timeout_seconds=2.0,
        money_timeout_seconds=money_timeout_seconds,
        delete_kinds=frozenset(ServiceKind),
    )
    pacer = CallPacer(CLOCK, per_second=500, burst=500)
    return IspLicenseClient(account, clock=CLOCK, observer=LoggingProviderObserver(), pacer=pacer)


@asynccontextmanager
async def provider_rig(
    database_url: str,
    state: Path,
    *,
    rules: SettlingRules = RULES,
    wrap: Callable[[ProviderClient], ProviderClient] | None = None,
) -> AsyncIterator[ProviderRig]:
    """Serve a sandbox, open the database and make a runner inside the block."""
    async with running_sandbox(state) as sandbox, open_pool(database_url, connections_max=8) as pool:
        await PostgresProviderAccounts(pool).enroll(
            {ACCOUNT: LIMITS.unresolved_max}
        )  # as the provider role at its start
        book = PostgresProviderOrders(pool, TIMES)
        announcer = TakingAnnouncer(pool)
        client: ProviderClient = a_client(sandbox)
        if wrap is not None:
            client = wrap(client)
        yield ProviderRig(
            database_url=database_url,
            pool=pool,
            book=book,
            oversight=PostgresProviderOversight(pool),
            announcer=announcer,
            runner=a_runner(book, client, announcer, rules=rules),
            client=client,
            sandbox=sandbox,
        )


ACCOUNT = FIRST_PROVIDER_ACCOUNT

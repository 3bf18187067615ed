"""Both sides of a provider account at their best, many services at once, and ways to make them differ.

Our side is written as orders and licenses leave it, theirs by the sandbox's control plane; the sweeper reads both as
the provider role does.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import orjson

from shared.contracts.envelope import new_id
from shared.database.catalogs import PostgresCatalogs
from shared.database.provider_comparison import PostgresOurSide
from shared.database.provider_sweeps import PostgresProviderSweeps
from shared.domain.drift import DriftKind
from shared.domain.provider_operation import marker_of
from shared.domain.provider_sweep import Sweep, SweepAsker
from tests.integration.provider_rig import ACCOUNT, CLOCK, ProviderRig
from workers.provider.observing import LoggingProviderObserver
from workers.provider.ports import ProviderClient
from workers.provider.sweeping import Sweeper, SweptAccount

SKU, PRICELIST, OTHER_PRICELIST, NODES = "ISPMGR6-BUSINESS", 549, 547, 3
CATALOG = {
    "products": [
        {
            "sku": SKU,
            "provider": "isplicense",
            "offer": {"order_function": "softexternal.order.param", "pricelist": PRICELIST, "node_code": 550},
        },
        {
            "sku": "ISPMGR6-LITE",
            "provider": "isplicense",
            "offer": {"order_function": "softexternal.order.param", "pricelist": 546},
        },
    ]
}
LICENSE = """
INSERT INTO license (license_id, account_id, number, activation_code, product, model, test, status, suspended,
    expires_on, revision, key_version, sequence, audit_sha256, service)
VALUES ('ka:' || $1, 'ka', $1, $1, $2, 'standard', false, 'active', false, '2099-01-01', 1, 0, 1, sha256('x'),
    $3::jsonb)
"""
ORDER = """
INSERT INTO provider_order (order_id, license_id, account_id, number, provider_account, kind, step, operation, slot_key,
    state, attempt, elid, how, refusal, intended_at, sent_at, decided_at, settled_at)
VALUES ($1, 'ka:' || $2, 'ka', $2, $3, $4, '{}', $5::jsonb, $6, $7::text, 1, $8,
    CASE $7 WHEN 'confirmed' THEN 'answer' END, CASE $7 WHEN 'refused' THEN 'rejected' END, now(), now(),
    CASE WHEN $7 IN ('confirmed', 'refused') THEN now() END,
    CASE WHEN $7 IN ('confirmed', 'refused') AND $9 THEN now() END)
"""
FIRST_NUMBER = 500_000


@dataclass(slots=True, kw_only=True)
class SweepRig:
    """A provider account with services on both sides."""

    rig: ProviderRig
    sweeps: PostgresProviderSweeps
    sweeper: Sweeper
    service_key: bytes
    licenses: dict[int, str] = field(default_factory=dict)
    """Service -> number of the license that holds it."""

    @classmethod
    async def on(cls, rig: ProviderRig, *, catalog: bool = True) -> "SweepRig":
        """Return the rig of an account without services."""
        if catalog:
            await PostgresCatalogs(rig.pool).add(CATALOG, version=1)
        key = await rig.value("SELECT service_key FROM provider_account WHERE name = $1", ACCOUNT)
        assert isinstance(key, bytes)
        sweeps = PostgresProviderSweeps(rig.pool)
        return cls(rig=rig, sweeps=sweeps, sweeper=a_sweeper(rig, sweeps), service_key=key)

    async def hold(self, count: int, *, charged: bool = True, ordered: bool = True) -> list[int]:
        """Let licenses hold so many new services, equal on both sides; return the services."""
        numbers = [f"{FIRST_NUMBER + len(self.licenses) + n:08d}" for n in range(count)]
        order_ids = [new_id() for _ in range(count)]
        wanted = [
            {
                "pricelist": PRICELIST,
                "licname": f"host-{number} {marker_of(self.service_key, order_id, 1)}",
                "ip": address_of(number),
                "nodes": NODES,
                "charged": charged,
            }
            for number, order_id in zip(numbers, order_ids, strict=True)
        ]
        elids: list[int] = (await self.rig.sandbox.control("POST", "licenses", wanted))["ids"]
        shown = {license["id"]: license for license in await self.rig.sandbox.licenses()}
        for elid, number, order_id in zip(elids, numbers, order_ids, strict=True):
            data = {"address": address_of(number), "label": f"host-{number}", "nodes": NODES}
            service = {"elid": elid, "sku": SKU, "data": data, "expires_on": shown[elid]["expires"]}
            await self.rig.execute(LICENSE, number, SKU, orjson.dumps(service).decode())
            self.licenses[elid] = number
            if ordered:
                operation = {"is": "OrderSoftware", "of": {"pricelist": PRICELIST}}
                await self._order(order_id, elid, "order", operation, state="confirmed")
        return elids

    async def later_order(self, elid: int, kind: str, state: str, *, settled: bool = True) -> UUID:
        """Store an order on a service that is held already."""
        names = {"end": "EndService", "prolong": "RenewService", "nodes": "SetNodes"}
        order_id = new_id()
        await self._order(order_id, elid, kind, {"is": names[kind], "of": {"elid": elid}}, state=state, settled=settled)
        return order_id

    async def _order(
        self, order_id: UUID, elid: int, kind: str, operation: object, *, state: str, settled: bool = True
    ) -> None:
        await self.rig.execute(
            ORDER,
            order_id,
            self.licenses[elid],
            ACCOUNT,
            kind,
            orjson.dumps(operation).decode(),
            str(order_id),
            state,
            elid if state == "confirmed" else None,
            settled,
        )

    async def drop_service(self, elid: int) -> None:
        """Let the license forget its service."""
        await self.rig.execute("UPDATE license SET service = NULL WHERE number = $1", self.licenses[elid])

    async def change_upstream(self, elid: int, **members: object) -> None:
        """Change a service behind everybody's back."""
        await self.rig.sandbox.control("POST", "licenses", {"id": elid, **members})

    async def remove_upstream(self, elid: int) -> None:
        """Remove a service without a trace."""
        await self.rig.sandbox.control("DELETE", f"licenses/{elid}")

    async def swept(self) -> Sweep:
        """Ask for a sweep, carry it and return it."""
        sweep_id = await self.sweeps.ask(ACCOUNT, SweepAsker.OPERATOR)
        await self.sweeper.carry(sweep_id)
        return await self.sweep(sweep_id)

    async def sweep(self, sweep_id: UUID) -> Sweep:
        """Return a stored sweep."""
        sweep = await self.sweeps.load(sweep_id)
        assert sweep is not None
        return sweep

    async def open_findings(self) -> list[str]:
        """Return the kinds of the open findings."""
        async with self.rig.pool.acquire() as connection:
            rows = await connection.fetch("SELECT kind FROM provider_finding WHERE closed_at IS NULL ORDER BY kind, id")
        return [row["kind"] for row in rows]

    async def told(self) -> list[dict[str, object]]:
        """Return the data of every attention event, oldest first."""
        async with self.rig.pool.acquire() as connection:
            rows = await connection.fetch(
                "SELECT value FROM outbox WHERE type = 'keyway.provider.attention' ORDER BY id"
            )
        return [orjson.loads(row["value"])["data"] for row in rows]


def a_sweeper(
    rig: ProviderRig, sweeps: PostgresProviderSweeps, client: ProviderClient | None = None, page_rows: int = 1000
) -> Sweeper:
    """Return the sweeper of a provider worker."""
    return Sweeper(
        book=sweeps,
        ours=PostgresOurSide(rig.pool, page_rows=page_rows),
        accounts={ACCOUNT: SweptAccount(client=client or rig.client, orders=rig.book)},
        clock=CLOCK,
        observer=LoggingProviderObserver(),
    )


def address_of(number: str) -> str:
    """Return the address of a license's server."""
    at = int(number) - FIRST_NUMBER
    return f"198.51.{at // 250}.{at % 250 + 1}"


Plant = Callable[[SweepRig, int], Awaitable[object]]


async def _surplus(rig: SweepRig, elid: int) -> None:
    await rig.drop_service(elid)


async def _not_released(rig: SweepRig, elid: int) -> None:
    await rig.drop_service(elid)
    await rig.later_order(elid, "end", "confirmed")


async def _foreign(rig: SweepRig, _elid: int) -> None:
    await rig.rig.sandbox.control("POST", "licenses", {"pricelist": PRICELIST, "licname": "by hand", "ip": "192.0.2.1"})


async def _shared(rig: SweepRig, elid: int) -> None:
    number = f"{int(rig.licenses[elid]) + 1_000_000:08d}"
    held = await rig.rig.value("SELECT service::text FROM license WHERE number = $1", rig.licenses[elid])
    await rig.rig.execute(LICENSE, number, SKU, held)


async def _not_ordered(rig: SweepRig, _elid: int) -> None:
    await rig.hold(1, ordered=False)


async def _not_charged(rig: SweepRig, _elid: int) -> None:
    await rig.hold(1, charged=False)


async def _unexplained_charge(rig: SweepRig, _elid: int) -> None:
    wanted = {"pricelist": PRICELIST, "ip": "192.0.2.2", "charged": True}
    (made,) = (await rig.rig.sandbox.control("POST", "licenses", wanted))["ids"]
    await rig.remove_upstream(made)


PLANTS: dict[DriftKind, Plant] = {
    DriftKind.MISSING: lambda rig, elid: rig.remove_upstream(elid),
    DriftKind.SURPLUS: _surplus,
    DriftKind.NOT_RELEASED: _not_released,
    DriftKind.FOREIGN: _foreign,
    DriftKind.SHARED: _shared,
    DriftKind.NOT_ORDERED: _not_ordered,
    DriftKind.EXPIRY: lambda rig, elid: rig.change_upstream(elid, expires="2031-01-31"),
    DriftKind.PRODUCT: lambda rig, elid: rig.change_upstream(elid, pricelist=OTHER_PRICELIST),
    DriftKind.ADDRESS: lambda rig, elid: rig.change_upstream(elid, ip="192.0.2.77"),
    DriftKind.LABEL: lambda rig, elid: rig.change_upstream(elid, licname="somebody else's"),
    DriftKind.NODES: lambda rig, elid: rig.change_upstream(elid, nodes=NODES + 6),
    DriftKind.SUSPENDED: lambda rig, elid: rig.change_upstream(elid, status=3),
    DriftKind.AUTOPROLONG: lambda rig, elid: rig.change_upstream(elid, autoprolong="1"),
    DriftKind.CHARGED: lambda rig, elid: rig.change_upstream(elid, charged=True),
    DriftKind.NOT_CHARGED: _not_charged,
    DriftKind.UNEXPLAINED_CHARGE: _unexplained_charge,
    DriftKind.UNDECIDED: lambda rig, elid: rig.later_order(elid, "prolong", "manual"),
}
"""How each kind of difference comes about, all but `PARENT`, which needs a module."""

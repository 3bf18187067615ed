"""Both sides read completely enough to compare them (`shared.domain.drift`).

The lists name tariffs in words; one form per word tells the code. A service that a list does not show is asked for by
its own form before it is called missing: a sticky filter or a late list must not invent a difference.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from shared.domain.catalog import Catalog
from shared.domain.drift import OurSide, TheirSide
from shared.domain.provider_operation import Elid, OrderFunction
from shared.domain.provider_service import ServiceForm, ServiceRow, ServiceStatus
from workers.provider.ports import FORM_KINDS, ProviderClient, ProviderReadError

READS_MAX = 3


def counting(ours: OurSide) -> frozenset[Elid]:
    """Return the services that are held with a number of nodes."""
    return frozenset(holding.service.elid for holding in ours.holdings if holding.service.data.nodes is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patrol:
    """Reads the provider's side."""

    client: ProviderClient

    async def read(self, ours: OurSide, *, counted: Collection[Elid]) -> TheirSide:
        """Return what the panel shows now. Raises `ProviderReadError` when it does not show everything.

        Numbers of nodes stand in forms alone, one call each: those of the services `counted` are read.
        """
        rows = await self._rows()
        charges = await self.client.read_charges()
        if not charges.conclusive:
            raise ProviderReadError(f"the expense ledger is not complete: {'; '.join(charges.doubts)}")
        alive = {row.elid for row in rows if row.status is not ServiceStatus.DELETED}
        forms: dict[Elid, ServiceForm | None] = {}
        for holding in ours.holdings:
            elid, sku = holding.service.elid, holding.service.sku
            if elid not in alive or elid in counted:
                forms[elid] = await self._form(elid, sku, ours.catalog)
        return TheirSide(
            rows=[*rows, *_unlisted(forms, alive)],
            charges=charges.rows,
            tariff_codes=await self._codes(rows),
            forms=forms,
        )

    async def _rows(self) -> Sequence[ServiceRow]:
        doubts: Sequence[str] = ()
        for _ in range(READS_MAX):
            services = await self.client.read_services(())
            if services.conclusive:
                return services.rows
            doubts = services.doubts
        raise ProviderReadError(f"the lists are not complete: {'; '.join(doubts)}")

    async def _form(self, elid: Elid, sku: str, catalog: Catalog) -> ServiceForm | None:
        product = catalog.products.get(sku)
        function = OrderFunction.SOFTWARE if product is None or product.offer is None else product.offer.order_function
        return await self.client.read_service(elid, FORM_KINDS[OrderFunction(function)])

    async def _codes(self, rows: Sequence[ServiceRow]) -> Mapping[str, int]:
        """Learn the price list code behind every name of a tariff in the lists."""
        codes: dict[str, int] = {}
        for row in rows:
            if row.status is ServiceStatus.DELETED or row.tariff.isdecimal() or row.tariff in codes:
                continue
            form = await self.client.read_service(row.elid, (row.kind,))
            if form is not None and form.pricelist is not None:
                codes[row.tariff] = form.pricelist
        return codes


def _unlisted(forms: Mapping[Elid, ServiceForm | None], alive: set[Elid]) -> list[ServiceRow]:
    """Return rows for services that have a living form but stand in no list."""
    hidden = [
        form
        for elid, form in forms.items()
        if elid not in alive and form is not None and form.status is not ServiceStatus.DELETED
    ]
    return [
        replace(
            ServiceRow(elid=form.elid, kind=form.kind, status=form.status),
            label=form.label,
            address=form.address,
            parent=form.parent,
            tariff="" if form.pricelist is None else str(form.pricelist),
            expires_on=form.expires_on,
        )
        for form in hidden
    ]

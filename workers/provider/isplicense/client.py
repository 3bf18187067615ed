"""The panel as the provider role sees it: seven operations that are sent once, and reads that know their own worth."""

from collections.abc import Collection, Sequence
from typing import assert_never

from shared.clock import SystemClock
from shared.domain.catalog import ProviderOffer
from shared.domain.provider_operation import Elid, Marker, ProviderOperation, ServiceKind, is_money
from shared.domain.provider_order import Pause
from shared.domain.provider_outcome import SendOutcome
from shared.domain.provider_service import (
    Balance,
    ChargeList,
    ServiceForm,
    ServiceList,
    ServiceRow,
    ServiceStatus,
)
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.calls import Document, PanelCalls, Unreadable
from workers.provider.isplicense.classification import Classifier, refused_here
from workers.provider.isplicense.documents import balance_of, charge_of, form_of, row_of
from workers.provider.isplicense.endpoint import Lookup, endpoint_of
from workers.provider.isplicense.forms import (
    UnfitOperationError,
    blank_filter_parameters,
    form_parameters,
    parameters_of,
    read_parameters,
)
from workers.provider.isplicense.pacing import CallPacer
from workers.provider.isplicense.reads import Elements, PanelMissedError, PanelReads
from workers.provider.isplicense.redaction import Redactor
from workers.provider.isplicense.transport import Broken, Received, Transport
from workers.provider.ports import Fence, ProviderObserver, ProviderReadError


class IspLicenseClient:
    """`ProviderClient` over HTTP. Construction reads the CA file; it raises `ConfigurationError`."""

    def __init__(
        self,
        account: PanelAccount,
        *,
        clock: SystemClock,
        observer: ProviderObserver,
        pacer: CallPacer,
        lookup: Lookup | None = None,
    ) -> None:
        endpoint = endpoint_of(account)
        transport = Transport(
            endpoint, account.authinfo, connect_timeout_seconds=account.connect_timeout_seconds, lookup=lookup
        )
        redactor = Redactor((account.authinfo, account.password), key_fields=account.key_fields)
        self._account = account
        self._pacer = pacer
        self._calls = PanelCalls(endpoint, transport, clock=clock, observer=observer)
        self._classifier = Classifier(account=account, redactor=redactor)
        self._reads = PanelReads(calls=self._calls, pacer=pacer, account=account, redactor=redactor)

    async def take_turn(self) -> None:
        """Wait until the account may call again."""
        await self._pacer.turn()

    async def carry_out(
        self, operation: ProviderOperation, *, offer: ProviderOffer | None, marker: Marker | None, fence: Fence
    ) -> SendOutcome:
        """Send the operation once and return what became of it (docs/protocols/isplicense.md 9.2)."""
        try:
            parameters = parameters_of(operation, offer=offer, marker=marker, account=self._account)
        except UnfitOperationError as error:
            return refused_here(str(error))
        account = self._account
        timeout_seconds = account.money_timeout_seconds if is_money(operation) else account.read_timeout_seconds
        answer = await self._calls.call(parameters, timeout_seconds=timeout_seconds, fence=fence)
        match answer:
            case Broken():
                return self._classifier.broken(answer)
            case Received():
                return self._classifier.status(answer)
            case Unreadable():
                return self._classifier.unreadable(answer.received, answer.reason, row=answer.row)
            case Document():
                return self._classifier.document(operation, answer.root, answer.received)
            case _:
                assert_never(answer)

    async def read_services(self, canaries: Collection[Elid]) -> ServiceList:
        """Return all lists (docs/protocols/isplicense.md 7.3); an incomplete one is read again with blank filters."""
        services, answered = await self._read_lists(canaries)
        if services.conclusive or not answered:
            return services
        for kind in self._account.list_kinds:
            await self._clear_filter(kind)
        services, _ = await self._read_lists(canaries)
        return services

    async def read_service(self, elid: Elid, kinds: Sequence[ServiceKind]) -> ServiceForm | None:
        """Return the first form that knows the service, None when the panel says that none does."""
        missing_functions: list[PanelMissedError] = []
        for kind in kinds:
            try:
                root = await self._reads.document(form_parameters(kind, elid))
            except PanelMissedError as missed:
                if missed.function_missing:
                    missing_functions.append(missed)
                continue
            form = form_of(root, kind, elid, self._account.key_fields)
            if form is None:
                raise ProviderReadError(f"the form of {kind} {elid} is of another service")
            return form
        if len(missing_functions) == len(kinds):
            raise ProviderReadError(f"no form function for service {elid}")
        return None

    async def read_charges(self) -> ChargeList:
        """Return the expense ledger."""
        elements = await self._reads.elements("expense")
        return ChargeList(rows=tuple(map(charge_of, elements.rows)), doubts=elements.doubts)

    async def read_balance(self) -> Balance | None:
        """Return the balance, None where the panel refuses or shows several."""
        try:
            return balance_of(await self._reads.document(read_parameters("subaccount")))
        except ProviderReadError as error:
            if error.pause is Pause.NONE and error.refusal is not None:
                return None
            raise

    async def _read_lists(self, canaries: Collection[Elid]) -> tuple[ServiceList, bool]:
        """Return all lists, and whether every one of them was answered."""
        rows: list[ServiceRow] = []
        doubts: list[str] = []
        answered = True
        for kind in self._account.list_kinds:
            elements = await self._reads.elements(kind)
            usable, kind_doubts = _rows_of(elements, kind)
            rows += usable
            doubts += kind_doubts
            answered = answered and not elements.failed
        alive = {row.elid for row in rows if row.status is not ServiceStatus.DELETED}
        doubts += [f"service {canary}, known to be alive, is missing" for canary in canaries if canary not in alive]
        return ServiceList(rows=tuple(rows), doubts=tuple(doubts)), answered

    async def _clear_filter(self, kind: ServiceKind) -> None:
        """Post a blank filter. What it answers does not matter: the lists are read again anyway."""
        await self._pacer.turn()
        parameters = blank_filter_parameters(kind)
        await self._calls.call(parameters, timeout_seconds=self._account.read_timeout_seconds)


def _rows_of(elements: Elements, kind: ServiceKind) -> tuple[list[ServiceRow], list[str]]:
    rows = [row for element in elements.rows if (row := row_of(element, kind)) is not None]
    doubts = list(elements.doubts)
    if len(rows) < len(elements.rows):
        doubts.append(f"{kind}: a row without a usable id")
    return rows, doubts

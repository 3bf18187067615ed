"""The beginning of an operation upstream: the data it needs, the license it belongs to, the first order."""

from shared.contracts.commands import Operation, ProvidedCommand
from shared.contracts.outcomes import RejectionCode
from shared.domain.case import Case, Rules
from shared.domain.catalog import Product
from shared.domain.decision import Decision, Pending, Rejected
from shared.domain.license import LicenseStatus
from shared.domain.open_operation import OpenOperation
from shared.domain.provisioning import ServerData, Step, UpstreamService, fault_of, is_module, merged


def begin(case: Case, command: ProvidedCommand, data: ServerData, steps: tuple[Step, ...], rules: Rules) -> Decision:
    """Return the decision that opens the operation with its first order, or refuses while orders are not taken.

    Nothing is stored while the breaker of the provider account is open, or where this installation has no such
    account: the caller gets 503 (docs/protocols/isplicense.md 11). Neither is it while a termination stands in line:
    what nobody will hold is not paid for. All steps of a plan are for one account.
    """
    if case.termination_waits:
        return Decision(answer=Rejected(RejectionCode.PROVIDER_UNAVAILABLE, {"number": command.number}))
    accepts = rules.provider_accounts.get(steps[0].account)
    if accepts is None:
        return Decision(answer=Rejected(RejectionCode.PROVIDER_MISSING, {"product": steps[0].product.sku}))
    if not accepts:
        return Decision(answer=Rejected(RejectionCode.PROVIDER_UNAVAILABLE, {"number": command.number}))
    opened = OpenOperation(
        command=command,
        data=data,
        steps=steps,
        service=case.license.service if case.license is not None else None,
    )
    return Decision(answer=Pending(), open=opened, order=opened.step)


def server_data(
    case: Case, command: Operation, product: Product, *, held: UpstreamService | None
) -> ServerData | Rejected:
    """Return the server data in force after the command, or why they cannot be used."""
    if case.server_data is None and (held is None or command.activation_data is not None):
        return _invalid(product, "ACTIVATION_DATA holds no server address")
    wanted = case.server_data or ServerData()
    data = wanted if held is None else merged(held.data, wanted)
    fault = fault_of(data, product)
    return data if fault is None else _invalid(product, fault)


def parent_service(case: Case, product: Product, data: ServerData) -> UpstreamService | Rejected | None:
    """Return the service of the parent license of a module; None for what is no module."""
    if not is_module(product):
        return None
    parent = case.parent
    if (
        parent is None
        or parent.number != data.parent_number
        or parent.status is not LicenseStatus.ACTIVE
        or parent.service is None
    ):
        return Rejected(RejectionCode.PARENT_UNSUITABLE, {"parent": data.parent_number or ""})
    return parent.service


def _invalid(product: Product, fault: str) -> Rejected:
    return Rejected(RejectionCode.ACTIVATION_DATA_INVALID, {"product": product.sku, "fault": fault})

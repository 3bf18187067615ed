"""An operation under way upstream: begun, not finished, and the only one of its license.

The rules that began it fixed its plan. Each outcome moves it one step on; the last one ends it with the events of the
command that began it. While it is open other commands of the license wait, in order (isv-endpoint 9, partner-api 5.7).
"""

from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from shared.contracts.commands import LicenseCommand, Operation, ProvidedCommand
from shared.contracts.key_commands import ModifyKey
from shared.domain.fingerprint import fingerprint_of
from shared.domain.provisioning import ServerData, Step, StepKind, UpstreamService


class AttentionKind(StrEnum):
    """Why people should look; values of the public event `keyway.provider.attention`."""

    NODES_REFUSED = "nodes_refused"
    """The service was ordered, its number of nodes was not accepted."""
    PERIOD_REFUSED = "period_refused"
    """The service of an upgrade was ordered, a period that it lacks until the license's last day was not accepted."""
    UPGRADE_LOST = "upgrade_lost"
    """The caller still holds the body before an upgrade of a provider product."""
    CLOSE_REFUSED = "close_refused"
    """The provider does not release a service that nobody needs any more."""
    ORDER_MANUAL = "order_manual"
    """The outcome of an order stays unknown: people decide."""
    ORDER_WAITS = "order_waits"
    """Nothing has moved an order on for half an hour; it is still to be carried out."""
    SURPLUS_SERVICE = "surplus_service"
    """A service of ours that no license needs."""
    ACCESS_REFUSED = "access_refused"
    """The provider does not take our credentials: nothing is called until the breaker closes."""
    KEY_MISSING = "key_missing"
    """A service is there and paid, but the provider does not show its key or last day."""
    FOREIGN_SERVICE = "foreign_service"
    """A service in our account that we did not order."""
    SERVICE_MISSING = "service_missing"
    """A license holds a service that is not there any more."""
    SERVICE_DIFFERS = "service_differs"
    """A service is not what our license says: day, product, address, nodes, whose it is."""
    CHARGE_DIFFERS = "charge_differs"
    """More or fewer charges than orders of ours, or one that nothing explains."""


@dataclass(frozen=True, slots=True)
class Attention:
    """One finding, with a text for people; nothing secret."""

    kind: AttentionKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOperation:
    """The operation, its plan and how far it is."""

    command: ProvidedCommand
    """The command that began it."""
    data: ServerData
    steps: tuple[Step, ...]
    position: int = 0
    """Index of the step whose order is out."""
    command_id: UUID | None = None
    """Id of that command; set, as the next one, where ids are known."""
    order_id: UUID | None = None
    """The order that is out."""
    service: UpstreamService | None = None
    """The service as the confirmed steps left it."""
    key_operations: tuple[str, ...] = ()
    """For a modification of a key: its operations in order of execution, as they were planned and checked."""
    termination_waits: bool = False
    """A termination stands in line behind it: what is not ordered yet never is."""

    def is_repeated_by(self, command: LicenseCommand) -> bool:
        """Whether `command` asks the very same, so that it is answered with the same outcome.

        A modification is the same when all of it is: one that differs in what it wants to be told, or in its name,
        waits in line and finds the key as the first one left it.
        """
        if isinstance(self.command, ModifyKey):
            return command == self.command
        return isinstance(command, Operation) and fingerprint_of(command) == fingerprint_of(self.command)

    @property
    def step(self) -> Step:
        """The step whose order is out."""
        return self.steps[self.position]


def confirmed(open: OpenOperation, outcome: UpstreamService) -> UpstreamService:  # noqa: A002 - the protocol's noun
    """Return the service after the step at hand was confirmed; `outcome` holds what was read upstream."""
    before = open.service
    match open.step.kind:
        case StepKind.ORDER:
            return replace(outcome, sku=open.step.product.sku, data=replace(open.data, nodes=None))
        case StepKind.PROLONG:
            held = before or outcome
            return replace(held, expires_on=outcome.expires_on or held.expires_on)
        case StepKind.NODES:
            held = before or outcome
            return replace(held, data=replace(held.data, nodes=open.data.nodes))
        case StepKind.CHANGE | StepKind.END:
            held = before or outcome
            return replace(held, data=replace(open.data, nodes=held.data.nodes))

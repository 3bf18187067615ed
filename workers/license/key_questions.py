"""What commands of the Partner API must know beside their own license, told before anything is decided."""

from collections.abc import Iterable, Iterator

from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import license_id
from shared.contracts.key_commands import (
    CreateKey,
    Idempotency,
    KeyCommand,
    KeyMembers,
    ModifyKey,
    PlanKey,
    RenewKey,
    TerminateKey,
)
from shared.domain.effects import KeyQuestions
from shared.domain.key_details import key_id_in
from shared.domain.key_modification import canonical_address


def questions_of(commands: Iterable[LicenseCommand]) -> KeyQuestions | None:
    """Return what those of `commands` that partners gave ask; None when there is none of them."""
    asked = [command for command in commands if isinstance(command, KeyCommand | PlanKey)]
    if not asked:
        return None
    members = [command.members for command in asked if isinstance(command, CreateKey | ModifyKey | PlanKey)]
    return KeyQuestions(
        licenses=frozenset(license_id(command.account, command.number) for command in asked),
        key_ids=frozenset(_parent_ids(members)),
        activation_codes=frozenset(
            each.parent.activation_code.upper()
            for each in members
            if each.parent is not None and each.parent.activation_code is not None
        ),
        addresses=frozenset(
            address
            for each in members
            if each.address is not None and (address := canonical_address(each.address)) is not None
        ),
        uids=frozenset(
            each.activation.uid for each in members if each.activation is not None and each.activation.uid is not None
        ),
        accounts=frozenset(name for command in asked for name in (command.account, command.asked_by)),
        owners=frozenset(each.owner_id for each in members if each.owner_id is not None),
        names=frozenset(
            (command.asked_by, named.key) for command in asked if (named := request_name(command)) is not None
        ),
    )


def request_name(command: KeyCommand | PlanKey) -> Idempotency | None:
    """Return the name that the caller gave to a request."""
    return None if isinstance(command, TerminateKey | RenewKey | PlanKey) else command.idempotency


def _parent_ids(members: Iterable[KeyMembers]) -> Iterator[int]:
    for each in members:
        if each.parent is not None:
            if each.parent.key_id is not None:
                yield each.parent.key_id
            if each.parent.key_number is not None and (named := key_id_in(each.parent.key_number)) is not None:
                yield named

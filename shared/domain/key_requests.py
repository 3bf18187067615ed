"""The decider of the Partner API: `(case, command, rules, now)` -> `Decision`, for the commands of partners.

Order of questions for a modification (docs/protocols/partner-api.md 5.6): a request of the same name, the key and
whether it is visible, the guard, the set of operations, conflicts, an empty set, the state, and then one operation
after the other on a working copy. All of them happen, or none.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import assert_never

from shared.contracts.identifiers import LicenseId
from shared.contracts.key_commands import (
    ConvertToEdition,
    CreateKey,
    KeyCommand,
    KeyMember,
    ModifyKey,
    ReinstateSus,
    RenewKey,
    RenewSus,
    SetRemainingActivations,
    TerminateKey,
)
from shared.contracts.outcomes import RejectionCode
from shared.domain.begin import begin
from shared.domain.case import Case, Rules
from shared.domain.decision import Decision, KeyState, Rejected, SameAgain
from shared.domain.key_details import KeyDetails, details_of_foreign
from shared.domain.key_lifecycle import (
    convert,
    create,
    reinstate_sus,
    renew,
    renew_sus,
    set_activations,
    terminate,
)
from shared.domain.key_modification import KeyOperation, guard_fits, plan
from shared.domain.key_operations import Surroundings, Working, carry_out, concluded
from shared.domain.key_owners import OwnerBook
from shared.domain.key_structure import KeyName, KeyView
from shared.domain.license import License, LicenseStatus


def decide_key(case: Case, command: KeyCommand, rules: Rules, *, now: datetime) -> Decision:
    """Return what becomes of a partner's command. `now` is the business clock, aware UTC."""
    around = surroundings(case, command, rules, now)
    if isinstance(command, CreateKey):
        if case.license is not None:
            return Decision(answer=Rejected(RejectionCode.LICENSE_EXISTS, {"number": command.number}))
        return _decision(create(command, case.activation_code, around), command, around)
    working = visible(case.license, command, around)
    if isinstance(working, Rejected):
        return Decision(answer=working)
    if isinstance(command, ModifyKey):
        return _modified(case, command, working, around, rules)
    return _decision(_done(command, working, around), command, around)


def surroundings(case: Case, command: KeyCommand, rules: Rules, now: datetime) -> Surroundings:
    """Return what the operations of a partner's command may look at beside the key."""
    return Surroundings(
        catalog=rules.catalog,
        owners=case.owners,
        asked_by=command.asked_by,
        related=case.related,
        now=now,
        policy=rules.policy,
    )


def named_before(case: Case, command: KeyCommand) -> Decision | None:
    """Return the answer to a request whose name was used before, None for all others (partner-api 3.2)."""
    named = None if isinstance(command, TerminateKey | RenewKey) else command.idempotency
    if named is None or case.known_request is None:
        return None
    if case.known_request.body_sha256 == named.body_sha256:
        return Decision(answer=SameAgain(case.known_request), open=case.open)
    return Decision(answer=Rejected(RejectionCode.KEY_REPEAT_DIFFERS, {"parameter": "Idempotency-Key"}), open=case.open)


def view_of(license: License, key: KeyDetails, related: Mapping[LicenseId, License], owners: OwnerBook) -> KeyView:
    """Return a key as people may see it."""
    owner = owners.owners.get(key.owner)
    children = [
        _name(other, other.key)
        for other in related.values()
        if other.key is not None and other.key.parent is not None and other.key.parent.license_id == license.license_id
    ]
    parent = key.parent
    held = None if parent is None else related.get(parent.license_id)
    return KeyView(
        details=key,
        key_version=license.key_version,
        expires_on=license.expires_on,
        terminated=license.status is LicenseStatus.TERMINATED,
        suspended=license.suspended,
        owner_suspended=owner is not None and owner.suspended,
        parent=None
        if parent is None
        else KeyName(
            key_id=parent.key_id,
            key_version=0 if held is None else held.key_version,
            activation_code=parent.activation_code,
        ),
        children=tuple(sorted(children, key=lambda child: child.key_id)),
    )


def as_key(license: License, key_id: int, activation_code: str | None, owners: OwnerBook) -> License:
    """Return a license as the Partner API sees it: one of a linked account has details, whoever sold it.

    What was never issued, or belongs to an account that is not linked, stays without and so is not found.
    """
    link = owners.accounts.get(license.account)
    if license.key is not None or link is None or activation_code is None or license.expires_on is None:
        return license
    details = details_of_foreign(
        key_id=key_id,
        activation_code=activation_code,
        owner=link.owner,
        configuration=owners.default_configuration(link.owner),
        product=license.product,
        created_on=license.subscription_on or license.expires_on,
        expires_on=license.expires_on,
    )
    return replace(license, key=details)


def _name(license: License, key: KeyDetails) -> KeyName:
    return KeyName(key_id=key.key_id, key_version=license.key_version, activation_code=key.activation_code)


def visible(license: License | None, command: KeyCommand, around: Surroundings) -> Working | Rejected:
    """Return the working copy of a key that the caller may see; nobody learns of others."""
    if license is None or license.key is None or not around.owners.reaches(around.asked_by, license.key.owner):
        return Rejected(RejectionCode.KEY_UNKNOWN, {"key": command.number})
    return Working(license=license, key=license.key)


def _done(
    command: TerminateKey | RenewKey | RenewSus | ReinstateSus | ConvertToEdition | SetRemainingActivations,
    working: Working,
    around: Surroundings,
) -> Working | Rejected:
    match command:
        case TerminateKey():
            done = terminate(working, around)
        case RenewKey():
            done = renew(working, around)
        case RenewSus():
            done = renew_sus(working, around)
        case ReinstateSus():
            done = reinstate_sus(command, working, around)
        case ConvertToEdition():
            done = convert(command, working, around)
        case SetRemainingActivations():
            done = set_activations(command, working, around)
        case _:
            assert_never(command)
    return done


def _modified(case: Case, command: ModifyKey, working: Working, around: Surroundings, rules: Rules) -> Decision:
    """Return the decision on a modification: done at once, or begun where a provider has something to do first."""
    operations = _planned(command, working, around)
    if isinstance(operations, Rejected):
        return Decision(answer=operations)
    done = carried_out(operations, command, working, around)
    if isinstance(done, Rejected) or not done.steps:
        return _decision(done, command, around)
    begun = begin(case, command, done.steps[0].data, done.steps, rules)
    opened = None if begun.open is None else replace(begun.open, key_operations=operations)
    return replace(begun, open=opened)


def _planned(command: ModifyKey, working: Working, around: Surroundings) -> tuple[KeyOperation, ...] | Rejected:
    """Return the operations of a request in order of execution, none where there is nothing to do."""
    members = command.members
    view = view_of(working.license, working.key, around.related, around.owners)
    if KeyMember.GUARD in members.given and (members.guard is None or not guard_fits(view, members.guard)):
        return working.refused(RejectionCode.KEY_GUARD_DIFFERS)
    default = around.owners.default_configuration(working.key.owner)
    planned = plan(view, members, default_configuration=default)
    if planned.conflicts:
        return Rejected(RejectionCode.KEY_CONFLICT, {"pairs": planned.conflict_text})
    if planned.operations and view.terminated:
        return working.refused(RejectionCode.KEY_TERMINATED)
    return planned.operations


def carried_out(
    operations: tuple[KeyOperation, ...], command: ModifyKey, working: Working, around: Surroundings
) -> Working | Rejected:
    """Return the working copy after all operations of a request and the event that tells of it, or the refusal."""
    if not operations:
        return working
    touched = replace(working, key=replace(working.key, modified_at=around.now))
    done = carry_out(operations, touched, command.members, around)
    return done if isinstance(done, Rejected) else concluded(done, operations, around.now)


def _decision(done: Working | Rejected, command: KeyCommand, around: Surroundings) -> Decision:
    if isinstance(done, Rejected):
        return Decision(answer=done)
    view = view_of(done.license, done.key, around.related, around.owners)
    is_told = not isinstance(command, SetRemainingActivations) and command.return_state
    return Decision(answer=KeyState(view, is_told), events=done.events, elsewhere=done.elsewhere)

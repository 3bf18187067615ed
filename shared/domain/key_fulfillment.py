"""A modification of a key that waited for a provider: carried out as it was planned, or as if it had never been.

docs/protocols/partner-api.md 5.7. The first transaction checked every precondition and stored the plan; this is the
last one. While the provider worked, the world around the key may have changed (an owner, a parent, an address that
somebody else took), so the plan is checked again on a working copy of what is there now.
"""

from dataclasses import dataclass, replace
from datetime import datetime

from shared.contracts.key_commands import ModifyKey
from shared.domain.case import Case, Rules
from shared.domain.decision import Decision, KeyState, Noted, Rejected
from shared.domain.key_modification import KeyOperation
from shared.domain.key_requests import carried_out, surroundings, view_of, visible
from shared.domain.open_operation import Attention, AttentionKind, OpenOperation
from shared.domain.provisioning import Step, StepKind, UpstreamService, plan_end


@dataclass(frozen=True, slots=True)
class Fulfilled:
    """What the provider has done: the service that is there and paid, and what is released for it."""

    service: UpstreamService
    superseded: tuple[Step, ...]


def finish(
    case: Case, open_operation: OpenOperation, command: ModifyKey, done: Fulfilled, rules: Rules, *, now: datetime
) -> Decision:
    """Return the decision of a modification whose provider has confirmed everything.

    Its right to the product was judged when it began; what concerns others is judged now. Where that refuses it,
    nothing happens to the key, the fresh service is released and people are told.
    """
    around = replace(surroundings(case, command, rules, now), provided=done.service)
    working = visible(case.license, command, around)
    if not isinstance(working, Rejected):
        operations = tuple(KeyOperation(name) for name in open_operation.key_operations)
        working = carried_out(operations, command, working, around)
    if isinstance(working, Rejected):
        return undo(case, open_operation, done.service, working)
    view = view_of(working.license, working.key, around.related, around.owners)
    return Decision(
        answer=Noted(),
        settled_answer=KeyState(view, command.return_state),
        events=working.events,
        elsewhere=working.elsewhere,
        releases=done.superseded,
    )


def undo(case: Case, open_operation: OpenOperation, service: UpstreamService | None, answer: Rejected) -> Decision:
    """Return the decision that ends a modification without any effect; a service ordered for it is released.

    `service` is what the confirmed steps left: the one held before when nothing was ordered yet.
    """
    decision = Decision(answer=Noted(), settled_answer=answer)
    held = None if case.license is None else case.license.service
    if open_operation.steps[0].kind is not StepKind.ORDER or service is None or service == held:
        return decision
    text = (
        f"service {service.elid} ({service.sku}) was ordered for a modification of the key that could not be carried"
        f" out then ({answer.code}); it is released again"
    )
    return replace(
        decision,
        releases=(plan_end(open_operation.step.product, service),),
        attention=(Attention(AttentionKind.SURPLUS_SERVICE, text),),
    )

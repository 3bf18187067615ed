"""The dry run of a modification: its plan, and the refusal that the modification itself gets (partner-api 5.9)."""

from shared.contracts.key_commands import PlanKey
from shared.contracts.outcomes import RejectionCode
from shared.contracts.replies import KeyPlan
from shared.domain.case import Case
from shared.domain.decision import Decision, KeyForecast, Rejected
from shared.domain.key_modification import Plan, plan
from shared.domain.key_requests import view_of


def forecast(case: Case, command: PlanKey, imagined: Decision) -> Decision:
    """Return what a modification would do, from `imagined`: the decision on it, of which nothing is kept.

    A key that the caller cannot see is as unknown as to the modification itself.
    """
    license, refused = case.license, imagined.answer if isinstance(imagined.answer, Rejected) else None
    if license is None or license.key is None or (refused is not None and refused.code is RejectionCode.KEY_UNKNOWN):
        return Decision(answer=refused or Rejected(RejectionCode.KEY_UNKNOWN, {"key": command.number}), open=case.open)
    planned = Plan(operations=(), conflicts=())
    if refused is None or refused.code is not RejectionCode.KEY_GUARD_DIFFERS:  # another key is meant: nothing to plan
        view = view_of(license, license.key, case.related, case.owners)
        default = case.owners.default_configuration(license.key.owner)
        planned = plan(view, command.members, default_configuration=default)
    told = KeyPlan(
        operations=() if planned.conflicts else planned.operations,
        conflicts=tuple(f"{first} + {second}" for first, second in planned.conflicts),
        refusal=None if refused is None else refused.code,
        details={} if refused is None else refused.details,
    )
    return Decision(answer=KeyForecast(license.key.key_id, told), open=case.open)

"""What a modification of a stored key would do now: the license worker's own handler, asked a question.

Nothing is written: the command is `PlanKey`, which leaves nothing behind (docs/protocols/partner-api.md 5.9).
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from shared.clock import MachineClock, business_clock
from shared.contracts.codec import decode_key_plan
from shared.contracts.envelope import Envelope, new_id
from shared.contracts.identifiers import CommandId
from shared.contracts.key_commands import KeyMembers, KeyReference, PlanKey
from shared.contracts.replies import KeyPlan, ReplyStatus
from shared.database.catalogs import PostgresCatalogs
from shared.database.key_queries import PostgresKeyQueries
from shared.database.license_store import PostgresLicenseStore
from shared.database.pool import open_pool
from shared.database.provider_accounts import PostgresProviderAccounts
from shared.domain.body import Claims
from shared.domain.decision import Alert
from shared.domain.effects import CommandEffect
from shared.settings import Settings
from workers.app.foundations import policy
from workers.license.case_file import ReceivedCommand
from workers.license.handler import LicenseHandler
from workers.license.rules_source import load_rules

QUERY_SECONDS = 5.0


class _Nobody:
    """Signs, hears and counts nothing: a question issues no body and commits nothing."""

    def sign(self, claims: Claims) -> bytes:
        raise AssertionError(f"a question issued a license body of {len(claims)} claims")

    def committed(self, effects: Sequence[CommandEffect]) -> None:
        raise AssertionError(f"a question was committed with {len(effects)} effects")

    def phase(self, name: str) -> AbstractContextManager[None]:
        del name
        return nullcontext()

    def command_handled(self, envelope: Envelope, outcome: str, alerts: Sequence[Alert]) -> None:
        pass

    def conflict_met(self) -> None:
        pass


async def foresee(settings: Settings, account: str, key: KeyReference, members: KeyMembers) -> KeyPlan | None:
    """Return what a PUT of `members` by `account` would do; None when it sees no such key.

    Raises `UnavailableError` and `ConfigurationError`.
    """
    clock, database_url, nobody = MachineClock(), settings.require_database_url(), _Nobody()
    today = business_clock(settings.clock_offset_file)
    async with open_pool(database_url, connections_max=1) as pool:
        found = await PostgresKeyQueries(pool, today).find(account, key)
        if found is None:
            return None
        store = PostgresLicenseStore(database_url, command_seconds=QUERY_SECONDS)
        handler = LicenseHandler(
            store=store,
            signer=nobody,
            rules=await load_rules(
                PostgresCatalogs(pool), policy(settings), clock, PostgresProviderAccounts(pool).accepting
            ),
            observer=nobody,
            listener=nobody,
            business_clock=today,
            system_clock=clock,
            issuer=settings.license_issuer,
        )
        command_id = CommandId(new_id())
        question = Envelope(
            command_id=command_id,
            correlation_id=command_id,
            causation_id=None,
            command=PlanKey(account=found.account, number=found.number, asked_by=account, members=members),
            deadline_at=None,
            occurred_at=clock.now(),
        )
        try:
            (handled,) = await handler.handle([ReceivedCommand(question, b"", 0)])
        finally:
            await store.close()
    if handled.reply is None or handled.reply.status is not ReplyStatus.KEY_STATE:
        return None
    return decode_key_plan(handled.reply.body)

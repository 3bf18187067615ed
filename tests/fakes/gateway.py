"""What stands behind the gateway's routes in tests: a bus that decides at once, and a login with known pairs."""

from datetime import datetime
from hashlib import sha256

from gateway.problems import Refused, Unanswered
from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import CommandId, LicenseId
from shared.contracts.replies import Reply
from shared.domain.body import Claims
from shared.domain.case import Rules
from shared.security.accounts import Principal, Role
from shared.security.basic import parse_basic
from shared.security.credentials import AuthenticationFailure
from tests.builders import NOW, an_envelope, rules
from workers.license.case_file import NOTHING_BESIDE, CaseFile, ReceivedCommand
from workers.license.desk import Desk


class PlainSigner:
    """Bodies that a person can read."""

    def sign(self, claims: Claims) -> bytes:
        """Return product and revision."""
        return f"{claims['sub']} {claims['product']} r{claims['revision']}".encode()


class DecidingBus:
    """Answers each command by the real rules on licenses held in memory; `now` is the business clock."""

    def __init__(self, *, now: datetime = NOW, rules_in_force: Rules | None = None) -> None:
        self.now = now
        self.rules = rules_in_force or rules()
        self.files: dict[LicenseId, CaseFile] = {}
        self.asked: list[LicenseCommand] = []
        self.trace_parents: list[bytes | None] = []
        self.answers: list[Reply | Unanswered | Refused] = []
        """When not empty: said instead, in this order."""

    async def ask(
        self, command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        """Decide and reply."""
        self.asked.append(command)
        self.trace_parents.append(trace_parent)
        if self.answers:
            return self.answers.pop(0)
        envelope = an_envelope(command, command_id=command_id)
        file = self.files.setdefault(envelope.license_id, CaseFile(account=command.account, number=command.number))
        desk = Desk(rules=self.rules, signer=PlainSigner(), issuer="keyway", business_now=self.now, system_now=self.now)
        received = ReceivedCommand(envelope, sha256(b"payload").digest(), queue_age_ms=0)
        stored = file.handle(received, desk, NOTHING_BESIDE).effect.reply
        return Reply(stored.status, stored.meta, file.body if stored.revision is not None else stored.body)


class KnownPairs:
    """Accounts with their secrets in clear; remembers a header after its first verification."""

    def __init__(self, pairs: dict[str, tuple[str, Role]]) -> None:
        self.pairs = pairs
        self.remembered: dict[str, Principal] = {}
        self.verifications = 0
        self.busy = False

    def lookup(self, authorization: str) -> Principal | None:
        """Return the principal of a header verified before."""
        return self.remembered.get(authorization)

    async def authenticate(self, authorization: str | None) -> Principal | AuthenticationFailure:
        """Compare with the known pairs."""
        self.verifications += 1
        credentials = parse_basic(authorization)
        if credentials is None or authorization is None:
            return AuthenticationFailure.MISSING
        if self.busy:
            return AuthenticationFailure.BUSY
        secret, role = self.pairs.get(credentials.user, ("", Role.KA))
        if not secret or secret != credentials.password:
            return AuthenticationFailure.REFUSED
        principal = self.remembered[authorization] = Principal(credentials.user, role)
        return principal

"""Login: an `Authorization` header -> a principal, with almost every request answered from memory.

Hashing a secret is slow on purpose, so a verified header is remembered: by its HMAC under a key that lives and dies
with this process, never in clear, at most `CACHED_HEADERS_MAX` of them, each for a bounded time. When that is over the
account is read again; only if it is enabled and has the very hash that the header was verified against does the entry
live on without hashing. So a disabled or rotated account is refused within that time, and nobody is served from
memory for longer, whatever fails.

Unknown users cost the same work as wrong secrets. Hashing runs in two threads with a bounded queue: a flood of wrong
secrets costs its sender a "busy", and those already known nothing. Many first requests with the same header wait for
one verification.
"""

import asyncio
import hmac
import secrets
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

from shared.clock import SystemClock
from shared.contracts.identifiers import ACCOUNT_NAME
from shared.errors import UnavailableError
from shared.security.account_secrets import hash_secret, new_secret, secret_matches
from shared.security.accounts import AccountDirectory, Principal, StoredAccount
from shared.security.basic import HEADER_CHARACTERS_MAX, BasicCredentials, parse_basic

CACHED_HEADERS_MAX = 10_000
HASHING_THREADS = 2
VERIFICATIONS_MAX = 32
"""Running and waiting; some 45 ms each, so a caller waits under a second or is told "busy"."""


class AuthenticationFailure(StrEnum):
    """Why a request has no principal."""

    MISSING = "missing"
    """No credentials, or nobody can read them."""
    REFUSED = "refused"
    """Unknown user, wrong secret or disabled account: never told which."""
    BUSY = "busy"
    """Too many unknown credentials at once: try again."""


@dataclass(frozen=True, slots=True)
class _Verified:
    principal: Principal
    secret_hash: str
    trusted_until: float
    """Monotonic seconds."""


_Outcome = Principal | AuthenticationFailure | UnavailableError
_Flights = dict[bytes, asyncio.Future[_Outcome]]


class Authenticator:
    """Verifies credentials; made by `open_authenticator`."""

    def __init__(self, accounts: AccountDirectory, clock: SystemClock, *, trust_seconds: float) -> None:
        self._accounts = accounts
        self._clock = clock
        self._trust_seconds = trust_seconds
        self._key = secrets.token_bytes(32)
        self._verified: dict[bytes, _Verified] = {}
        self._flights: _Flights = {}
        self._decoy_hash = hash_secret(new_secret())
        self._room = threading.BoundedSemaphore(VERIFICATIONS_MAX)
        self._threads = ThreadPoolExecutor(HASHING_THREADS, thread_name_prefix="credentials")

    def close(self) -> None:
        """Drop what waits and end the threads; a verification at work is left to finish by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def lookup(self, authorization: str) -> Principal | None:
        """Return the principal of a header that was verified lately, None when `authenticate` must be asked."""
        if len(authorization) > HEADER_CHARACTERS_MAX:
            return None
        known = self._verified.get(self._digest(authorization))
        if known is None or self._clock.monotonic() >= known.trusted_until:
            return None
        return known.principal

    async def authenticate(self, authorization: str | None) -> Principal | AuthenticationFailure:
        """Return who sent the header. Raises `UnavailableError` when the accounts cannot be read now."""
        credentials = parse_basic(authorization)
        if authorization is None or credentials is None:
            return AuthenticationFailure.MISSING
        digest = self._digest(authorization)
        while (flight := self._flights.get(digest)) is not None:
            await asyncio.wait((flight,))
            if not flight.cancelled():
                return _landed(flight.result())
        known = self.lookup(authorization)
        return _landed(await self._lead(digest, credentials)) if known is None else known

    def _digest(self, authorization: str) -> bytes:
        return hmac.digest(self._key, authorization.encode("utf-8", "surrogatepass"), "sha256")

    async def _lead(self, digest: bytes, credentials: BasicCredentials) -> _Outcome:
        """Verify for everybody who comes with the same header meanwhile. When we are cancelled, one of them leads."""
        flight: asyncio.Future[_Outcome] = asyncio.get_running_loop().create_future()
        self._flights[digest] = flight
        try:
            flight.set_result(await self._verify(digest, credentials))
        except UnavailableError as error:
            flight.set_result(error)
        finally:
            del self._flights[digest]
            flight.cancel()  # nothing to an outcome; without one it sends the others to find a new leader
        return flight.result()

    async def _verify(self, digest: bytes, credentials: BasicCredentials) -> Principal | AuthenticationFailure:
        known = self._verified.get(digest)
        if known is not None:
            trusted_until = self._clock.monotonic() + self._trust_seconds
            account = await self._accounts.find(known.principal.account)
            if account is not None and not account.disabled and account.secret_hash == known.secret_hash:
                return self._remember(digest, account, trusted_until)
        if not self._room.acquire(blocking=False):
            return AuthenticationFailure.BUSY
        trusted_until = self._clock.monotonic() + self._trust_seconds
        try:
            account = await self._find(credentials.user)
            secret_hash = self._decoy_hash if account is None else account.secret_hash
            work = self._threads.submit(secret_matches, secret_hash, credentials.password)
        except BaseException:
            self._room.release()
            raise
        work.add_done_callback(self._make_room)
        matches = await asyncio.wrap_future(work)
        if account is None or account.disabled or not matches:
            return AuthenticationFailure.REFUSED
        return self._remember(digest, account, trusted_until)

    async def _find(self, user: str) -> StoredAccount | None:
        return await self._accounts.find(user) if ACCOUNT_NAME.fullmatch(user) else None

    def _make_room(self, _work: Future[bool]) -> None:
        self._room.release()

    def _remember(self, digest: bytes, account: StoredAccount, trusted_until: float) -> Principal:
        """Trust the header until then, counted from before the account was read."""
        principal = Principal(account.name, account.role)
        self._verified.pop(digest, None)
        if len(self._verified) >= CACHED_HEADERS_MAX:
            del self._verified[next(iter(self._verified))]
        self._verified[digest] = _Verified(principal, account.secret_hash, trusted_until)
        return principal


def _landed(outcome: _Outcome) -> Principal | AuthenticationFailure:
    if isinstance(outcome, UnavailableError):
        raise outcome
    return outcome


@asynccontextmanager
async def open_authenticator(
    accounts: AccountDirectory, clock: SystemClock, *, trust_seconds: float
) -> AsyncIterator[Authenticator]:
    """Lend an authenticator for the block. `trust_seconds` is how long a verified header is believed, 0 for never."""
    authenticator = Authenticator(accounts, clock, trust_seconds=trust_seconds)
    try:
        yield authenticator
    finally:
        authenticator.close()

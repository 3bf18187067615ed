"""Login: strict parsing, bounded trust, one verification for many, and no work for those already known."""

import asyncio
import base64
import gc
import sys
import threading
from collections.abc import AsyncIterator, Callable
from types import FrameType

import pytest
import pytest_asyncio

from shared.errors import UnavailableError
from shared.security import credentials as login
from shared.security.account_secrets import hash_secret, new_secret, secret_matches
from shared.security.accounts import Principal, Role, StoredAccount
from shared.security.basic import BasicCredentials, basic_header, parse_basic
from shared.security.credentials import AuthenticationFailure, Authenticator, open_authenticator
from tests.fakes.clocks import ManualSystemClock
from tests.fakes.installation import InMemoryAccounts

TRUST_SECONDS = 30.0
SECRET = "open sesame"
SECRET_HASH = hash_secret(SECRET)
HEADER = basic_header("ka", SECRET)
KA = Principal("ka", Role.KA)


def account(name: str = "ka", *, secret_hash: str = SECRET_HASH, disabled: bool = False) -> StoredAccount:
    return StoredAccount(name=name, role=Role.KA, secret_hash=secret_hash, disabled=disabled)


async def until(condition: Callable[[], bool]) -> None:
    """Let the others run until `condition` holds."""
    for _ in range(1_000_000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("never came true")


class HashCounter:
    """The real verification, counted; can be held back to fill the queue."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, secret_hash: str, secret: str) -> bool:
        self.calls += 1
        assert self.gate.wait(20)
        return secret_matches(secret_hash, secret)


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> HashCounter:
    counter = HashCounter()
    monkeypatch.setattr(login, "secret_matches", counter)
    return counter


@pytest.fixture
def clock() -> ManualSystemClock:
    return ManualSystemClock()


@pytest.fixture
def accounts() -> InMemoryAccounts:
    directory = InMemoryAccounts()
    directory.stored["ka"] = account()
    return directory


@pytest_asyncio.fixture
async def authenticator(
    accounts: InMemoryAccounts, clock: ManualSystemClock, hashing: HashCounter
) -> AsyncIterator[Authenticator]:
    async with open_authenticator(accounts, clock, trust_seconds=TRUST_SECONDS) as opened:
        yield opened
        hashing.gate.set()


@pytest.mark.parametrize(
    ("header", "credentials"),
    [
        (basic_header("ka", "pa:ss"), BasicCredentials("ka", "pa:ss")),
        (basic_header("ka", ""), BasicCredentials("ka", "")),
        (basic_header("", "x"), BasicCredentials("", "x")),
        (basic_header("ka", "größe\n"), BasicCredentials("ka", "größe\n")),
        ("bAsIc a2E6eA==", BasicCredentials("ka", "x")),
        ("Basic   a2E6eA==  ", BasicCredentials("ka", "x")),
    ],
)
def test_basic_header_is_parted_at_its_first_colon(header: str, credentials: BasicCredentials) -> None:
    parsed = parse_basic(header)
    assert parsed == credentials
    assert parsed is not None
    assert parsed.password == credentials.password


GARBLED_HEADERS = [
    None,
    "",
    "Basic",
    "Basic ",
    "Basic ====",
    "Basic !!!",
    "Basic a2E6eA",
    "Basic a2E6eA=",
    "Basic a2E6eB==",
    "Basic a2E6\neA==",
    "Basic a2E6 eA==",
    "Basic a2E6eA==, Basic a2E6eA==",
    "Basic a2F4",
    "Basic " + base64.b64encode(b"ka:\xff\xfe").decode(),
    "Basic " + base64.b64encode(b"ka:" + b"x" * 10_000).decode(),
    "Basic \udcff\udcfe",
    "Basic größe",
    "Bearer a2E6eA==",
    "Basica2E6eA==",
    "\x00",
]


@pytest.mark.parametrize("header", GARBLED_HEADERS)
@pytest.mark.asyncio
async def test_garbled_header_is_missing_credentials_without_work(
    header: str | None, authenticator: Authenticator, accounts: InMemoryAccounts, hashing: HashCounter
) -> None:
    assert await authenticator.authenticate(header) is AuthenticationFailure.MISSING
    assert header is None or authenticator.lookup(header) is None
    assert (accounts.readings, hashing.calls) == (0, 0)


def test_password_shows_in_no_representation() -> None:
    assert SECRET not in repr(parse_basic(HEADER))


def test_secret_is_new_each_time_and_needs_no_quoting() -> None:
    drawn = {new_secret() for _ in range(200)}
    assert len(drawn) == 200
    assert all(
        len(secret) == 32 and secret[0] == "k" and secret.replace("-", "").replace("_", "").isalnum()
        for secret in drawn
    )


def test_hash_is_argon2id_with_our_parameters() -> None:
    assert SECRET_HASH.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hash_secret(SECRET) != SECRET_HASH


def test_unreadable_stored_hash_is_our_failure_not_the_callers() -> None:
    with pytest.raises(UnavailableError, match="keyway account rotate"):
        secret_matches("$argon2id$broken", SECRET)


@pytest.mark.asyncio
async def test_right_pair_is_verified_once_and_then_known(
    authenticator: Authenticator, accounts: InMemoryAccounts, hashing: HashCounter
) -> None:
    assert authenticator.lookup(HEADER) is None
    assert await authenticator.authenticate(HEADER) == KA
    assert authenticator.lookup(HEADER) == KA
    assert await authenticator.authenticate(HEADER) == KA
    assert (accounts.readings, hashing.calls) == (1, 1)


@pytest.mark.parametrize(
    "header",
    [
        basic_header("ka", SECRET + " "),
        basic_header("ka", ""),
        basic_header("KA", SECRET),
        basic_header("nobody", SECRET),
        basic_header("", SECRET),
        basic_header("ka\x00", SECRET),
        basic_header("k" * 33, SECRET),
    ],
)
@pytest.mark.asyncio
async def test_wrong_pair_is_refused_with_the_same_work_and_never_known(
    header: str, authenticator: Authenticator, hashing: HashCounter
) -> None:
    assert await authenticator.authenticate(header) is AuthenticationFailure.REFUSED
    assert authenticator.lookup(header) is None
    assert hashing.calls == 1


@pytest.mark.asyncio
async def test_disabled_account_is_refused_with_the_same_work(
    authenticator: Authenticator, accounts: InMemoryAccounts, hashing: HashCounter
) -> None:
    accounts.stored["ka"] = account(disabled=True)
    assert await authenticator.authenticate(HEADER) is AuthenticationFailure.REFUSED
    assert hashing.calls == 1


@pytest.mark.asyncio
async def test_trust_ends_at_its_age_and_is_renewed_without_hashing_while_the_account_is_unchanged(
    authenticator: Authenticator, accounts: InMemoryAccounts, hashing: HashCounter, clock: ManualSystemClock
) -> None:
    await authenticator.authenticate(HEADER)
    clock.seconds += TRUST_SECONDS - 0.001
    assert authenticator.lookup(HEADER) == KA
    clock.seconds += 0.001
    assert authenticator.lookup(HEADER) is None
    assert await authenticator.authenticate(HEADER) == KA
    assert (accounts.readings, hashing.calls) == (2, 1)
    clock.seconds += TRUST_SECONDS - 0.001
    assert authenticator.lookup(HEADER) == KA


@pytest.mark.parametrize("changed", [account(disabled=True), account(secret_hash=hash_secret("another")), None])
@pytest.mark.asyncio
async def test_disabled_rotated_or_unknown_account_is_refused_once_trust_is_over(
    changed: StoredAccount | None, authenticator: Authenticator, accounts: InMemoryAccounts, clock: ManualSystemClock
) -> None:
    await authenticator.authenticate(HEADER)
    accounts.stored = {} if changed is None else {"ka": changed}
    clock.seconds += TRUST_SECONDS
    assert await authenticator.authenticate(HEADER) is AuthenticationFailure.REFUSED
    accounts.stored = {"ka": account()}
    assert authenticator.lookup(HEADER) is None


@pytest.mark.asyncio
async def test_trust_counts_from_before_the_account_was_read(
    authenticator: Authenticator, accounts: InMemoryAccounts, clock: ManualSystemClock
) -> None:
    accounts.open.clear()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(authenticator.authenticate(HEADER))
        await until(lambda: accounts.readings == 1)
        clock.seconds += TRUST_SECONDS
        accounts.open.set()
    assert task.result() == KA
    assert authenticator.lookup(HEADER) is None


@pytest.mark.asyncio
async def test_outage_is_unavailable_for_unknown_headers_and_never_a_refusal(
    authenticator: Authenticator, accounts: InMemoryAccounts
) -> None:
    accounts.down = True
    with pytest.raises(UnavailableError):
        await authenticator.authenticate(HEADER)
    accounts.down = False
    assert await authenticator.authenticate(HEADER) == KA


@pytest.mark.asyncio
async def test_outage_does_not_stretch_trust_and_its_end_restores_it(
    authenticator: Authenticator, accounts: InMemoryAccounts, hashing: HashCounter, clock: ManualSystemClock
) -> None:
    await authenticator.authenticate(HEADER)
    accounts.down = True
    assert authenticator.lookup(HEADER) == KA
    clock.seconds += TRUST_SECONDS
    assert authenticator.lookup(HEADER) is None
    with pytest.raises(UnavailableError):
        await authenticator.authenticate(HEADER)
    accounts.down = False
    assert await authenticator.authenticate(HEADER) == KA
    assert hashing.calls == 1


@pytest.mark.asyncio
async def test_without_trust_every_request_reads_the_account(
    accounts: InMemoryAccounts, clock: ManualSystemClock
) -> None:
    async with open_authenticator(accounts, clock, trust_seconds=0) as authenticator:
        for _ in range(3):
            assert await authenticator.authenticate(HEADER) == KA
            assert authenticator.lookup(HEADER) is None
    assert accounts.readings == 3


async def ask_at_once(authenticator: Authenticator, headers: list[str]) -> list[Principal | AuthenticationFailure]:
    async with asyncio.timeout(40), asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(authenticator.authenticate(header)) for header in headers]
    return [task.result() for task in asked]


@pytest.mark.parametrize(
    ("header", "answer"), [(HEADER, KA), (basic_header("ka", "no"), AuthenticationFailure.REFUSED)]
)
@pytest.mark.asyncio
async def test_burst_of_the_same_header_is_verified_once(
    header: str, answer: object, authenticator: Authenticator, accounts: InMemoryAccounts, hashing: HashCounter
) -> None:
    assert await ask_at_once(authenticator, [header] * 200) == [answer] * 200
    assert (accounts.readings, hashing.calls) == (1, 1)


@pytest.mark.asyncio
async def test_burst_during_an_outage_is_unavailable_for_all_and_leaves_nothing_behind(
    authenticator: Authenticator, accounts: InMemoryAccounts
) -> None:
    accounts.down = True
    answers = await asyncio.gather(*(authenticator.authenticate(HEADER) for _ in range(20)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [UnavailableError] * 20
    accounts.down = False
    assert await authenticator.authenticate(HEADER) == KA


@pytest.mark.asyncio
async def test_leader_that_is_cancelled_hands_over_to_those_who_wait(
    authenticator: Authenticator, accounts: InMemoryAccounts, hashing: HashCounter
) -> None:
    accounts.open.clear()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        leader = tasks.create_task(authenticator.authenticate(HEADER))
        followers = [tasks.create_task(authenticator.authenticate(HEADER)) for _ in range(5)]
        await until(lambda: accounts.readings == 1)
        leader.cancel()
        followers[0].cancel()
        await until(lambda: accounts.readings == 2)
        accounts.open.set()
    assert [follower.result() for follower in followers[1:]] == [KA] * 4
    assert leader.cancelled()
    assert followers[0].cancelled()
    assert hashing.calls == 1


@pytest.mark.asyncio
async def test_flood_of_wrong_secrets_is_busy_beyond_the_queue_and_known_callers_do_not_notice(
    authenticator: Authenticator, hashing: HashCounter
) -> None:
    assert await authenticator.authenticate(HEADER) == KA
    hashing.gate.clear()
    async with asyncio.timeout(40), asyncio.TaskGroup() as tasks:
        flood = [
            tasks.create_task(authenticator.authenticate(basic_header("ka", f"wrong {n}")))
            for n in range(login.VERIFICATIONS_MAX + 40)
        ]
        await until(lambda: sum(task.done() for task in flood) >= 40)
        assert authenticator.lookup(HEADER) == KA
        assert await authenticator.authenticate(HEADER) == KA
        hashing.gate.set()
    answers = [task.result() for task in flood]
    assert answers.count(AuthenticationFailure.BUSY) == 40
    assert answers.count(AuthenticationFailure.REFUSED) == login.VERIFICATIONS_MAX
    assert await authenticator.authenticate(basic_header("ka", "later")) is AuthenticationFailure.REFUSED


@pytest.mark.asyncio
async def test_callers_who_leave_give_their_place_in_the_queue_back(
    authenticator: Authenticator, hashing: HashCounter
) -> None:
    hashing.gate.clear()
    waiting = [
        asyncio.ensure_future(authenticator.authenticate(basic_header("ka", f"{n}")))
        for n in range(login.VERIFICATIONS_MAX)
    ]
    async with asyncio.timeout(20):
        await until(lambda: hashing.calls >= login.HASHING_THREADS)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    hashing.gate.set()
    assert await authenticator.authenticate(HEADER) == KA


@pytest.mark.asyncio
async def test_outage_while_verifying_gives_the_place_in_the_queue_back(
    authenticator: Authenticator, accounts: InMemoryAccounts
) -> None:
    accounts.down = True
    for n in range(login.VERIFICATIONS_MAX + 1):
        with pytest.raises(UnavailableError):
            await authenticator.authenticate(basic_header("ka", f"{n}"))
    accounts.down = False
    assert await authenticator.authenticate(HEADER) == KA


@pytest.mark.asyncio
async def test_known_headers_are_bounded_and_the_oldest_is_forgotten(
    authenticator: Authenticator, accounts: InMemoryAccounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(login, "CACHED_HEADERS_MAX", 2)
    accounts.stored |= {name: account(name) for name in ("a", "b")}
    headers = [basic_header(name, SECRET) for name in ("ka", "a", "b")]
    for header in headers:
        await authenticator.authenticate(header)
    assert [authenticator.lookup(header) is not None for header in headers] == [False, True, True]


@pytest.mark.asyncio
async def test_no_secret_is_kept_after_verification(accounts: InMemoryAccounts, clock: ManualSystemClock) -> None:
    secret = "only here " + "f7c1"
    accounts.stored["ka"] = account(secret_hash=hash_secret(secret))
    async with open_authenticator(accounts, clock, trust_seconds=30) as authenticator:
        header = basic_header("ka", secret)
        assert await authenticator.authenticate(header) == KA
        reached = reachable_texts(authenticator)
    assert any("argon2id" in text for text in reached)
    assert not [text for text in reached if "f7c1" in text or header[6:] in text]


def reachable_texts(root: object) -> list[str]:
    """Return every text and byte string that can be reached from the instance, classes and modules apart."""
    seen: set[int] = set()
    texts: list[str] = []
    ahead = [root]
    while ahead:
        value = ahead.pop()
        if (
            id(value) in seen
            or isinstance(value, type | asyncio.AbstractEventLoop | threading.Thread)
            or hasattr(value, "__spec__")
        ):
            continue
        seen.add(id(value))
        match value:
            case str():
                texts.append(value)
            case bytes():
                texts.append(value.decode("latin-1"))
            case _ if not callable(value) or value is root:
                ahead += gc.get_referents(value)
            case _:
                pass
    return texts


@pytest.mark.asyncio
async def test_looking_up_a_known_header_is_a_handful_of_calls_and_no_hash(
    authenticator: Authenticator, accounts: InMemoryAccounts, hashing: HashCounter
) -> None:
    await authenticator.authenticate(HEADER)
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        known = authenticator.lookup(HEADER)
    finally:
        sys.setprofile(None)

    assert known == KA
    assert calls < 20, "it is asked for every request"
    assert (accounts.readings, hashing.calls) == (1, 1)

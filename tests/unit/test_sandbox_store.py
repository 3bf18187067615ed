"""What the sandbox promises about its memory: written before shown, torn tails cut, damage refused, one owner."""

import asyncio
import contextlib
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from keyway.sandbox.catalog import Kind
from keyway.sandbox.journal import JournalEntry
from keyway.sandbox.log import EffectLog
from keyway.sandbox.rows import Account, Charge, Gone, Profile, SavedFilter, Service
from keyway.sandbox.state import encode_rows
from keyway.sandbox.store import Opening, Store
from shared.clock import MachineClock
from shared.errors import ConfigurationError

CLOCK = MachineClock()
NOW = CLOCK.now()
OPENING = Opening(seed="test", user="reseller", password="pw", balance=5_0000)


def opened(folder: Path, opening: Opening = OPENING) -> Store:
    return Store(EffectLog(folder), opening, CLOCK)


def service(number: int) -> Service:
    return Service(id=number, user="reseller", kind=Kind.SOFTEXTERNAL, pricelist=546, period=1, created_at=NOW)


def charge(number: int) -> Charge:
    return Charge(
        number=number,
        at=NOW,
        user="reseller",
        amount=5_0000,
        reason="order",
        service_id=1,
        pricelist=546,
        period=1,
        request_number=number,
    )


def entry(number: int) -> JournalEntry:
    return JournalEntry(
        number=number,
        at=NOW,
        method="POST",
        path="/manager/billmgr",
        func="whoami",
        user="reseller",
        names=[],
        values={},
        is_submit=False,
        secrets_in_query=False,
        connection="",
        tls=False,
        attempt="",
    )


def abandon(store: Store) -> None:
    """Leave the folder as a killed process does: nothing is written any more, only the lock is gone."""
    os.close(store._log._descriptor)
    os.close(store._log._lock)


@contextlib.contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Let the system refuse file bytes beyond a limit: a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_was_committed_is_there_after_a_kill(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([service(1), service(2), Profile(unique_ip=True)])
    store.commit([replace(service(1), licname="renamed"), Gone(table="services", key="2")])
    store.commit([charge(1), charge(2)])
    store.commit([SavedFilter(user="reseller", list_func="soft", fields={"ip": "1"})])
    store.record(entry(1))
    before = list(store.state.rows())
    abandon(store)

    abandon(opened(tmp_path))  # a start writes the log anew
    again = opened(tmp_path)

    assert list(again.state.rows()) == before
    assert again.state.charges == [charge(1), charge(2)]
    assert [again.state.services[1].licname, len(again.state.services)] == ["renamed", 1]
    assert again.journal.next_number == 2
    again.close()


def test_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([service(1)])
    store.commit([service(2)])
    abandon(store)
    path = tmp_path / "state.log"
    path.write_bytes(path.read_bytes()[:-5])

    again = opened(tmp_path)
    again.commit([service(3)])
    abandon(again)

    last = opened(tmp_path)
    assert sorted(last.state.services) == [1, 3]
    last.close()


def test_damage_before_the_last_line_stops_the_start(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for number in range(1, 4):
        store.commit([service(number)])
    abandon(store)
    path = tmp_path / "state.log"
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"id":1,', b'"id":7,'))

    with pytest.raises(ConfigurationError, match="is damaged"):
        opened(tmp_path)


def test_folder_has_one_owner(tmp_path: Path) -> None:
    store = opened(tmp_path)

    with pytest.raises(ConfigurationError, match="belongs to a running sandbox"):
        opened(tmp_path)
    store.close()


def test_compacted_log_is_small_and_says_the_same(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for round_number in range(200):
        store.commit([replace(service(1), licname=str(round_number))])
    store.record(entry(1))
    rows, grown = list(store.state.rows()), store._log.size_bytes
    store._compact()
    compacted = store._log.size_bytes
    store.commit([service(2)])
    abandon(store)

    again = opened(tmp_path)

    assert compacted < grown / 10
    assert [row for row in again.state.rows() if row != service(2)] == rows
    assert 2 in again.state.services
    assert list(again.journal.entries())
    again.close()


def test_log_compacts_itself_when_it_grows(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store._compact_at = 4096
    for round_number in range(100):
        store.commit([replace(service(1), licname=str(round_number))])

    assert store._log.size_bytes < 64 * 1024 * 1024
    assert (tmp_path / "state.log").stat().st_size == store._log.size_bytes
    assert store.state.services[1].licname == "99"
    store.close()


def test_failed_write_changes_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([service(1)])
    size = (tmp_path / "state.log").stat().st_size

    with file_size_limit(size + 10), pytest.raises(OSError, match="fitted"):
        store.commit([service(2)])

    assert (tmp_path / "state.log").stat().st_size == size
    assert 2 not in store.state.services
    store.commit([service(3)])
    abandon(store)
    assert sorted(opened(tmp_path).state.services) == [1, 3]


def test_password_of_the_command_line_wins_and_the_balance_stays(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([replace(store.state.accounts["reseller"], balance=7)])
    store.close()

    again = opened(tmp_path, replace(OPENING, password="new", balance=99))

    assert again.state.accounts == {"reseller": Account(user="reseller", password="new", balance=7)}
    again.close()


def test_another_user_of_the_command_line_joins_the_known_ones(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([service(1)])
    store.close()

    again = opened(tmp_path, replace(OPENING, user="second"))

    assert sorted(again.state.accounts) == ["reseller", "second"]
    assert 1 in again.state.services
    again.close()


def test_reset_starts_over_on_disk_too(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.commit([service(1), Profile(unique_ip=True)])
    store.reset()
    abandon(store)

    again = opened(tmp_path)

    assert (again.state.services, again.state.profile, again.state.world.next_payment_id) == ({}, Profile(), 5502)
    again.close()


def test_reset_of_ten_thousand_licenses_takes_less_than_ten_milliseconds(tmp_path: Path) -> None:
    store = opened(tmp_path)
    took = []
    for _ in range(3):
        store.commit([service(number) for number in range(1, 10_001)])
        for number in range(1, 5001):
            store.journal.keep(number, b"{}%d" % number)
        begun = time.thread_time()
        store.reset()
        took.append(time.thread_time() - begun)

    assert min(took) < 0.010, took
    store.close()


@pytest.mark.asyncio
async def test_waiting_for_the_disk_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(tmp_path)
    await store.durable()
    synced: list[int] = []

    def counting_sync(descriptor: int) -> None:
        synced.append(descriptor)
        os.fsync(descriptor)

    monkeypatch.setattr("keyway.sandbox.log.os.fdatasync", counting_sync)

    async def commit_one(number: int) -> None:
        store.commit([service(number)])
        await store.durable()

    await asyncio.gather(*(commit_one(number) for number in range(1, 51)))

    assert 1 <= len(synced) < 25
    store.close()


def test_rows_survive_their_journey(tmp_path: Path) -> None:
    store = opened(tmp_path)
    original = replace(service(1), expires_on=NOW.date(), active_at=NOW, item=4, node_count=3, licname="Ж <&> \x00")
    store.commit([original])
    line = encode_rows([original])
    abandon(store)

    again = opened(tmp_path)

    assert again.state.services[1] == original
    assert b"\n" not in line
    again.close()


def test_further_accounts_are_opened_and_put_right_at_every_start_and_reset(tmp_path: Path) -> None:
    first = replace(OPENING, further={"second": "a", "third": "b"})
    store = opened(tmp_path, first)
    assert {user: account.password for user, account in store.state.accounts.items()} == {
        "reseller": "pw",
        "second": "a",
        "third": "b",
    }
    assert {account.balance for account in store.state.accounts.values()} == {OPENING.balance}
    assert len(store.state.payments) == 3
    store.close()

    again = opened(tmp_path, replace(first, further={"second": "new", "fourth": "c"}))
    passwords = {user: account.password for user, account in again.state.accounts.items()}
    assert passwords == {"reseller": "pw", "second": "new", "third": "b", "fourth": "c"}
    again.reset()
    assert set(again.state.accounts) == {"reseller", "second", "fourth"}
    again.close()
    kept = opened(tmp_path, OPENING)
    assert set(kept.state.accounts) == {"reseller", "second", "fourth"}
    kept.close()

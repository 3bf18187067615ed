"""The panel's memory: tables of rows, changed only by `apply`, and the words that carry rows to disk and back."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import TypeVar, assert_never

import orjson
from pydantic import TypeAdapter

from keyway.sandbox.rows import (
    Account,
    Address,
    CartItem,
    Charge,
    FaultRule,
    Gone,
    LongPage,
    Payment,
    Profile,
    Row,
    SavedFilter,
    Service,
    Session,
    World,
)

# Rows that outsiders can make without paying: the oldest goes when there are more.
TRANSIENT_ROWS_MAX = 10_000

Transient = TypeVar("Transient", Session, Address, LongPage)

_CLASSES: tuple[type[Row], ...] = (
    Account,
    Service,
    Charge,
    CartItem,
    Payment,
    Session,
    SavedFilter,
    Address,
    LongPage,
    FaultRule,
    Profile,
    World,
    Gone,
)
_READERS: dict[str, TypeAdapter[Row]] = {row_class.__name__: TypeAdapter(row_class) for row_class in _CLASSES}


class State:
    """All tables. Nothing but `apply` changes them."""

    def __init__(self, world: World) -> None:
        """Start empty, with the counters and the seed of `world`."""
        self.world = world
        self.profile = Profile()
        self.accounts: dict[str, Account] = {}
        self.services: dict[int, Service] = {}
        self.charges: list[Charge] = []
        self.cart_items: dict[int, CartItem] = {}
        self.payments: dict[int, Payment] = {}
        self.sessions: dict[str, Session] = {}
        self.filters: dict[tuple[str, str], SavedFilter] = {}
        self.addresses: dict[str, Address] = {}
        self.long_pages: dict[str, LongPage] = {}
        self.faults: dict[int, FaultRule] = {}

    def apply(self, rows: Iterable[Row]) -> None:
        """Take over `rows`, each replacing the one with its key."""
        for row in rows:
            self._apply_one(row)

    def _apply_one(self, row: Row) -> None:  # noqa: C901, PLR0912 - one flat match, a case per table
        match row:
            case Account():
                self.accounts[row.user] = row
            case Service():
                self.services[row.id] = row
            case Charge():
                self.charges.append(row)
            case CartItem():
                self.cart_items[row.id] = row
            case Payment():
                self.payments[row.id] = row
            case Session():
                _keep_newest(self.sessions, row.id, row)
            case SavedFilter():
                self.filters[row.user, row.list_func] = row
            case Address():
                _keep_newest(self.addresses, row.address, row)
            case LongPage():
                _keep_newest(self.long_pages, row.token, row)
            case FaultRule():
                self.faults[row.id] = row
            case Profile():
                self.profile = row
            case World():
                self.world = row
            case Gone():
                self._remove(row)
            case _:
                assert_never(row)

    def _remove(self, gone: Gone) -> None:
        match gone.table:
            case "services":
                self.services.pop(int(gone.key), None)
            case "cart_items":
                self.cart_items.pop(int(gone.key), None)
            case "faults":
                self.faults.pop(int(gone.key), None)
            case "filters":
                user, list_func = gone.key.split("\n")
                self.filters.pop((user, list_func), None)
            case _:
                assert_never(gone.table)

    def rows(self) -> Iterator[Row]:
        """Return every row, so that applying them to an empty state gives this one."""
        yield self.world
        yield self.profile
        for table in (
            self.accounts,
            self.services,
            self.cart_items,
            self.payments,
            self.sessions,
            self.filters,
            self.addresses,
            self.long_pages,
            self.faults,
        ):
            yield from table.values()
        yield from self.charges


def sandbox_time(world: World, base: datetime) -> datetime:
    """Return the sandbox's moment when the base clock shows `base`."""
    return world.frozen_at if world.frozen_at is not None else base + timedelta(seconds=world.offset_seconds)


def encode_rows(rows: Iterable[Row]) -> bytes:
    """Return rows as one line of the log."""
    return orjson.dumps([[type(row).__name__, row] for row in rows])


def decode_rows(pairs: list[tuple[str, dict[str, object]]]) -> list[Row]:
    """Return the rows of one line of the log."""
    return [_READERS[name].validate_python(members) for name, members in pairs]


def _keep_newest(table: dict[str, Transient], key: str, row: Transient) -> None:
    table.pop(key, None)
    table[key] = row
    if len(table) > TRANSIENT_ROWS_MAX:
        del table[next(iter(table))]

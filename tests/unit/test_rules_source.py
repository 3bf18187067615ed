"""The rules in force follow the newest catalog and survive what the database does."""

from datetime import datetime

import pytest

from shared.domain.case import Policy
from shared.domain.catalog import Catalog, Product
from shared.errors import ConfigurationError, KeywayError, UnavailableError
from workers.license.rules_source import LOOK_SECONDS, load_rules

POLICY = Policy(nfr_to_regular_allowed=True)


class WorldEndError(Exception):
    """The test is over."""


class EndingClock:
    """Ends the world after so many sleeps."""

    def __init__(self, looks: int = 0) -> None:
        self.slept: list[float] = []
        self.looks = looks

    def monotonic(self) -> float:
        return sum(self.slept)

    def now(self) -> datetime:
        raise AssertionError("nobody asks for the date here")

    async def sleep(self, seconds: float) -> None:
        if len(self.slept) == self.looks:
            raise WorldEndError
        self.slept.append(seconds)


class InMemoryShelf:
    """Catalogs in a list; can fail."""

    def __init__(self, *catalogs: Catalog) -> None:
        self.catalogs = list(catalogs)
        self.failure: KeywayError | None = None

    async def newer_than(self, version: int) -> Catalog | None:
        if self.failure is not None:
            raise self.failure
        newest = self.catalogs[-1] if self.catalogs else None
        return newest if newest is not None and newest.version > version else None


def catalog(version: int) -> Catalog:
    return Catalog(version=version, products={f"V{version}": Product(sku=f"V{version}")})


@pytest.mark.asyncio
async def test_rules_begin_with_the_newest_catalog_and_the_policy() -> None:
    rules = await load_rules(InMemoryShelf(catalog(1), catalog(2)), POLICY, EndingClock())
    assert rules.current().catalog == catalog(2)
    assert rules.current().policy == POLICY


@pytest.mark.asyncio
async def test_rules_without_a_catalog_do_not_begin() -> None:
    with pytest.raises(ConfigurationError, match="keyway catalog apply"):
        await load_rules(InMemoryShelf(), POLICY, EndingClock())


@pytest.mark.asyncio
async def test_newer_catalog_is_in_force_after_the_next_look() -> None:
    shelf, clock = InMemoryShelf(catalog(1)), EndingClock(looks=2)
    rules = await load_rules(shelf, POLICY, clock)
    shelf.catalogs.append(catalog(2))
    with pytest.raises(WorldEndError):
        await rules.watch()
    assert clock.slept == [LOOK_SECONDS] * 2
    assert rules.current().catalog == catalog(2)
    assert rules.current().policy == POLICY


@pytest.mark.parametrize("failure", [UnavailableError("down"), ConfigurationError("written by a newer release")])
@pytest.mark.asyncio
async def test_known_catalog_stays_in_force_while_looking_fails(failure: KeywayError) -> None:
    shelf = InMemoryShelf(catalog(1))
    rules = await load_rules(shelf, POLICY, EndingClock())
    shelf.catalogs.append(catalog(2))
    shelf.failure = failure
    await rules.look()
    assert rules.current().catalog == catalog(1)
    shelf.failure = None
    await rules.look()
    assert rules.current().catalog == catalog(2)

"""The rules in force follow the newest catalog and survive what the database does."""

import pytest

from shared.domain.case import Policy
from shared.domain.catalog import Catalog, Product
from shared.errors import ConfigurationError, KeywayError, UnavailableError
from tests.fakes.clocks import ManualSystemClock, TimeEndedError
from tests.fakes.installation import InMemoryCatalogs
from workers.license.rules_source import LOOK_SECONDS, load_rules

POLICY = Policy(nfr_to_regular_allowed=True)


def document(version: int) -> object:
    return {"products": [{"sku": f"V{version}"}]}


def catalog(version: int) -> Catalog:
    return Catalog(version=version, products={f"V{version}": Product(sku=f"V{version}")})


@pytest.fixture
def shelf() -> InMemoryCatalogs:
    catalogs = InMemoryCatalogs()
    catalogs.documents.append(document(1))
    return catalogs


@pytest.mark.asyncio
async def test_rules_begin_with_the_newest_catalog_and_the_policy(shelf: InMemoryCatalogs) -> None:
    shelf.documents.append(document(2))
    rules = await load_rules(shelf, POLICY, ManualSystemClock())
    assert rules.current().catalog == catalog(2)
    assert rules.current().policy == POLICY


@pytest.mark.asyncio
async def test_rules_without_a_catalog_do_not_begin() -> None:
    with pytest.raises(ConfigurationError, match="keyway catalog apply"):
        await load_rules(InMemoryCatalogs(), POLICY, ManualSystemClock())


@pytest.mark.asyncio
async def test_newer_catalog_is_in_force_after_the_next_look(shelf: InMemoryCatalogs) -> None:
    clock = ManualSystemClock(sleeps_max=2)
    rules = await load_rules(shelf, POLICY, clock)
    shelf.documents.append(document(2))
    with pytest.raises(TimeEndedError):
        await rules.watch()
    assert clock.slept == [LOOK_SECONDS] * 2
    assert rules.current().catalog == catalog(2)
    assert rules.current().policy == POLICY


@pytest.mark.parametrize("failure", [UnavailableError("down"), ConfigurationError("written by a newer release")])
@pytest.mark.asyncio
async def test_known_catalog_stays_in_force_while_looking_fails(failure: KeywayError, shelf: InMemoryCatalogs) -> None:
    rules = await load_rules(shelf, POLICY, ManualSystemClock())
    shelf.documents.append(document(2))
    shelf.failure = failure
    await rules.look()
    assert rules.current().catalog == catalog(1)
    shelf.failure = None
    await rules.look()
    assert rules.current().catalog == catalog(2)

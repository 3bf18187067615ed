"""Several accounts at the provider: the setting that names them, where an order goes, and that they share nothing."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from keyway.cli.settings import value_shown
from shared.clock import MachineClock
from shared.contracts.envelope import new_id
from shared.domain.case import Rules
from shared.domain.catalog import Catalog
from shared.domain.provider_operation import OrderModule
from shared.domain.provider_settling import ReleasePolicy
from shared.domain.provisioning import StepKind
from shared.errors import ConfigurationError
from shared.settings import load_settings
from tests.builders import CATALOG, MARCH, a_purchase, a_renew, a_terminate, an_upgrade, rules
from tests.unit.test_provider_handling import ELID, LITE, Upstream
from workers.provider.assembly import claim_limits, panel_account, provider_accounts, settling_rules
from workers.provider.crew import OrderCrew

FIRST = {
    "KEYWAY_PROVIDER_ISPLICENSE_URL": "https://panel.example/manager/billmgr",
    "KEYWAY_PROVIDER_ISPLICENSE_USER": "first",
    "KEYWAY_PROVIDER_ISPLICENSE_PASSWORD": "canary-one",
    "KEYWAY_PROVIDER_ISPLICENSE_UNRESOLVED_MAX": "5",
}
SETTING = "KEYWAY_PROVIDER_ISPLICENSE_ACCOUNTS"
SECOND = {"name": "second", "user": "other", "password": "canary-two", "release": "auto", "money_in_flight": 3}


def test_an_installation_without_the_setting_has_its_one_account() -> None:
    settings = load_settings(FIRST)

    accounts = provider_accounts(settings)

    assert list(accounts) == ["isplicense"]
    assert accounts["isplicense"] == settings


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([SECOND]),
        "- {name: second, user: other, password: canary-two, release: auto, money_in_flight: 3}",
    ],
)
def test_a_further_account_is_used_as_its_entry_says_and_otherwise_like_the_first(text: str) -> None:
    accounts = provider_accounts(load_settings({**FIRST, SETTING: text}))

    assert list(accounts) == ["isplicense", "second"]
    panel = panel_account(accounts["second"])
    assert (panel.base_url, panel.user) == (FIRST["KEYWAY_PROVIDER_ISPLICENSE_URL"], "other")
    assert panel.password.get_secret_value() == "canary-two"
    assert settling_rules(accounts["second"]).policy is ReleasePolicy.AUTO
    assert settling_rules(accounts["isplicense"]).policy is ReleasePolicy.MANUAL
    limits = {name: claim_limits(each) for name, each in accounts.items()}
    assert {name: (each.unresolved_max, each.money_in_flight_max) for name, each in limits.items()} == {
        "isplicense": (5, 1),
        "second": (5, 3),
    }


def test_further_accounts_may_stand_in_a_file_and_are_never_shown(tmp_path: Path) -> None:
    secret = tmp_path / "accounts"
    secret.write_text(json.dumps([SECOND]))

    settings = load_settings({**FIRST, f"{SETTING}_FILE": str(secret)})

    assert settings.provider_isplicense_accounts[0].password.get_secret_value() == "canary-two"
    assert "canary" not in repr(settings) + repr(provider_accounts(settings))
    assert value_shown(settings.provider_isplicense_accounts) == "second"


def test_an_installation_may_have_further_accounts_only() -> None:
    alone = load_settings({SETTING: json.dumps([{**SECOND, "url": "https://other.example/manager/billmgr"}])})

    assert list(provider_accounts(alone)) == ["second"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{name: canary}", "not a list"),
        ("- [canary", "not YAML or JSON at line 1"),
        ("- &a [canary]\n- *b", "not YAML or JSON"),
        (json.dumps([{**SECOND, "name": "isplicense"}]), "two accounts are named isplicense"),
        (json.dumps([SECOND, SECOND]), "two accounts are named second"),
        (json.dumps([{"name": "second", "user": "canary"}]), r"ACCOUNTS\[0\].password: Field required"),
        (json.dumps([SECOND, {**SECOND, "name": "Canary!"}]), r"ACCOUNTS\[1\].name"),
        (json.dumps([{**SECOND, "passwort": "canary"}]), r"ACCOUNTS\[0\].passwort"),
        (json.dumps([{**SECOND, "money_in_flight": 65}]), r"ACCOUNTS\[0\].money_in_flight"),
        (json.dumps([{**SECOND, "name": f"a{number}"} for number in range(33)]), "at most 32"),
        (" " * 65_537, "at most 65536"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_without_quoting_it(given: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as refused:
        load_settings({**FIRST, SETTING: given})

    assert SETTING in str(refused.value)
    assert "canary" not in str(refused.value).lower()


def with_accounts(accounts: Mapping[str, bool], **products: str) -> Rules:
    """The example rules with products ordered in accounts of their own."""
    moved = {sku: replace(CATALOG.products[sku], provider_account=account) for sku, account in products.items()}
    return replace(
        rules(), catalog=Catalog(version=2, products={**CATALOG.products, **moved}), provider_accounts=accounts
    )


class Upheld(Upstream):
    """A bench whose rules can be changed."""

    def __init__(self, in_force: Rules) -> None:
        super().__init__()
        self.in_force = in_force
        self.handler.rules = self

    def current(self) -> Rules:
        return self.in_force


BOTH = {"isplicense": True, "second": True}
PRO_IN_SECOND = {"ISPMGR6-PRO": "second"}


@pytest.mark.asyncio
async def test_an_order_goes_to_the_account_that_the_catalog_names_and_what_follows_stays_there() -> None:
    upstream = Upheld(with_accounts(BOTH, **{"ISPMGR6-LITE": "second"}))
    await upstream.bought()
    upstream.in_force = with_accounts(BOTH)  # a later catalog orders it elsewhere

    await upstream.ask_from(a_renew(product="ISPMGR6-LITE", expires_on=MARCH.replace(year=MARCH.year + 1)))
    prolong = upstream.open_order()

    (bought,) = (order for order in upstream.store.tables.orders.values() if order.step.kind is StepKind.ORDER)
    assert bought.step.account == "second"
    assert (prolong.step.kind, prolong.step.account) == (StepKind.PROLONG, "second")


@pytest.mark.asyncio
@pytest.mark.parametrize(("test", "account"), [(True, "second"), (False, "isplicense"), (None, "isplicense")])
async def test_a_test_order_and_its_upgrade_go_to_the_account_for_tests_and_real_ones_never(
    *, test: bool | None, account: str
) -> None:
    named = {
        sku: replace(CATALOG.products[sku], test_provider_account="second") for sku in ("ISPMGR6-LITE", "ISPMGR6-PRO")
    }
    catalog = Catalog(version=2, products={**CATALOG.products, **named})
    upstream = Upheld(replace(rules(), catalog=catalog, provider_accounts=BOTH))
    await upstream.ask_from(replace(LITE, test=test))
    bought = upstream.open_order()
    await upstream.confirm(bought, service_expires_on=MARCH, provider_account=account)
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO", test=test))

    assert (bought.step.account, upstream.open_order().step.account) == (account, account)


@pytest.mark.asyncio
async def test_an_upgrade_into_another_account_releases_the_old_service_where_it_was_ordered() -> None:
    upstream = Upheld(with_accounts(BOTH, **PRO_IN_SECOND))
    await upstream.bought()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"))
    order = upstream.open_order()

    await upstream.confirm(order, service_id=50001, service_expires_on=MARCH, provider_account="second")
    release = upstream.open_order(StepKind.END)

    assert order.step.account == "second"
    assert release.step.account == "isplicense"
    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.service is not None
    assert kept.license.service.account == "second"


@pytest.mark.asyncio
async def test_a_module_is_ordered_where_its_parent_is_whatever_the_catalog_says() -> None:
    upstream = Upheld(with_accounts(BOTH, **{"ISPMGR6-LITE": "second"}))
    await upstream.bought()

    await upstream.ask_from(
        a_purchase(number="00481600", product="SOFTACULOUS-ISPMGR5", activation_data='{"parent":"00481516"}')
    )

    module = upstream.open_order()
    assert isinstance(module.operation, OrderModule)
    assert (module.operation.parent, module.step.account) == (ELID, "second")


@pytest.mark.asyncio
async def test_a_product_whose_account_is_not_there_is_refused_and_nothing_is_stored() -> None:
    upstream = Upheld(with_accounts({"isplicense": True}, **{"ISPMGR6-LITE": "second"}))

    handled = await upstream.ask_from(LITE)

    assert handled.reply is not None
    assert handled.reply.meta.split(b"\n")[0].startswith(b"provider_missing")
    assert upstream.store.tables.orders == {}


@pytest.mark.asyncio
async def test_an_account_that_takes_no_orders_leaves_the_others_taking_them() -> None:
    upstream = Upheld(with_accounts({"isplicense": False, "second": True}, **PRO_IN_SECOND))

    refused = await upstream.ask_from(LITE)
    await upstream.ask_from(a_purchase(number="00481600", product="ISPMGR6-PRO", activation_data="203.0.113.9"))

    assert refused.reply is not None
    assert refused.reply.meta == b"provider_unavailable"
    assert upstream.open_order().step.account == "second"


@pytest.mark.asyncio
async def test_a_release_in_one_account_is_not_taken_for_the_same_id_in_another() -> None:
    upstream = Upheld(with_accounts(BOTH, **PRO_IN_SECOND))
    await upstream.bought()
    await upstream.ask_from(an_upgrade(product="ISPMGR6-PRO"))
    await upstream.confirm(upstream.open_order(), service_id=ELID, service_expires_on=MARCH, provider_account="second")
    release = upstream.open_order(StepKind.END)
    await upstream.ask_from(a_terminate(product="ISPMGR6-PRO"))

    await upstream.confirm(release, service_id=ELID, provider_account="isplicense")

    (kept,) = upstream.store.tables.licenses.values()
    assert kept.license.service is not None, "the service in the second account is still to be released"
    assert kept.license.service.account == "second"


@pytest.mark.asyncio
async def test_an_account_that_hangs_uses_its_own_hands_and_is_not_waited_for_again() -> None:
    accounts: dict[UUID, str] = {}
    carried: list[UUID] = []
    release = asyncio.Event()

    async def hang(_order_id: UUID) -> None:
        await release.wait()

    async def carry(order_id: UUID) -> None:
        carried.append(order_id)

    async def account_of(order_id: UUID) -> str | None:
        return accounts.get(order_id)

    made = OrderCrew({"isplicense": hang, "second": carry}, account_of, MachineClock(), lambda: 0.5, 4, line_max=16)
    hanging, flowing, unknown = [new_id() for _ in range(40)], [new_id() for _ in range(40)], new_id()
    accounts.update(dict.fromkeys(hanging, "isplicense") | dict.fromkeys(flowing, "second"))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(made.run())
        await made.begin([*hanging, unknown])
        await made.wait(hanging, seconds=0.05)
        others = await made.begin(flowing)
        await asyncio.gather(*others)
        assert sorted(carried) == sorted(flowing)
        assert made.carried_count == 16, "the rest of the line is left to the next bell"
        async with asyncio.timeout(5):
            await made.wait(hanging, seconds=3600)  # nobody waits for an account that kept somebody waiting
        release.set()
        running.cancel()

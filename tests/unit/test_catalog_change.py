"""What a new catalog changes and whom it would strand."""

from shared.domain.catalog import Catalog
from shared.domain.catalog_change import ChangeKind, ProductChange, changes_between
from shared.domain.catalog_check import check_catalog


def catalog(*products: dict[str, object]) -> Catalog:
    outcome = check_catalog({"products": list(products)}, version=1)
    assert isinstance(outcome, Catalog), [str(fault) for fault in outcome]
    return outcome


GOLD: dict[str, object] = {"sku": "Gold"}
SILVER: dict[str, object] = {"sku": "Silver", "upgrades_to": ["Gold"]}
BACKUP: dict[str, object] = {
    "sku": "Backup",
    "model": "reporting",
    "counters": [{"name": "sites", "kind": "level"}, {"name": "bytes", "kind": "increment"}],
}


def test_first_catalog_only_adds() -> None:
    assert changes_between(None, catalog(GOLD)) == (ProductChange(sku="Gold", kind=ChangeKind.ADDED),)


def test_same_products_in_another_order_are_no_change() -> None:
    turned = {**BACKUP, "counters": [{"name": "bytes", "kind": "increment"}, {"name": "sites", "kind": "level"}]}
    assert changes_between(catalog(GOLD, SILVER, BACKUP), catalog(turned, SILVER, GOLD)) == ()


def test_removed_product_strands_its_licenses() -> None:
    (change,) = changes_between(catalog(GOLD, BACKUP), catalog(GOLD))
    assert change == ProductChange(sku="Backup", kind=ChangeKind.REMOVED, strands=("the product is gone",))


def test_step_taken_away_strands_and_step_added_does_not() -> None:
    (fewer,) = changes_between(catalog(GOLD, SILVER), catalog(GOLD, {"sku": "Silver"}))
    assert fewer.strands == ("the step to Gold is gone",)
    assert fewer.details == ("upgrades_to: Gold -> none",)
    (more,) = changes_between(catalog(GOLD, {"sku": "Silver"}), catalog(GOLD, SILVER))
    assert (more.kind, more.strands) == (ChangeKind.CHANGED, ())


def test_counter_gone_or_of_another_kind_strands_and_counter_added_does_not() -> None:
    fewer = {**BACKUP, "counters": [{"name": "sites", "kind": "increment"}]}
    (change,) = changes_between(catalog(BACKUP), catalog(fewer))
    assert change.strands == ("the counter sites becomes increment, was level", "the counter bytes is gone")
    more = {**BACKUP, "counters": [*BACKUP["counters"], {"name": "users", "kind": "level"}]}  # type: ignore[misc] # a literal above
    (change,) = changes_between(catalog(BACKUP), catalog(more))
    assert (change.kind, change.strands) == (ChangeKind.CHANGED, ())


BASE = {"kind": "base", "family": "plesk"}


def test_other_kind_model_or_provider_strands() -> None:
    ordered = {"provider": "isplicense", "offer": {"order_function": "softexternal.order.param", "pricelist": 1}}
    (provider,) = changes_between(catalog(GOLD), catalog({**GOLD, **ordered}))
    assert provider.strands == ("provider changes from local to isplicense",)
    (model,) = changes_between(catalog(GOLD), catalog({**BACKUP, "sku": "Gold"}))
    assert model.strands == ("model changes from standard to reporting",)
    (kind,) = changes_between(catalog(GOLD), catalog({**GOLD, "kind": "key_item", "item": BASE}))
    assert kind.strands == ("kind changes from isv to key_item",)


def test_another_account_for_tests_is_a_change_that_strands_nobody() -> None:
    ordered = {
        "sku": "A",
        "provider": "isplicense",
        "offer": {"order_function": "softexternal.order.param", "pricelist": 1},
    }
    (change,) = changes_between(catalog(ordered), catalog({**ordered, "test_provider_account": "sandbox"}))
    assert (change.strands, change.details) == ((), ("test_provider_account: none -> sandbox",))


def test_other_price_code_is_a_change_that_strands_nobody() -> None:
    def ordered(pricelist: int) -> Catalog:
        offer = {"order_function": "softexternal.order.param", "pricelist": pricelist}
        return catalog({"sku": "A", "provider": "isplicense", "offer": offer})

    (change,) = changes_between(ordered(1), ordered(2))
    assert change.strands == ()
    told = "order_function softexternal.order.param, pricelist {}, node_code None, periods_months (1, 12)"
    assert change.details == (f"offer: {told.format(1)} -> {told.format(2)}",)

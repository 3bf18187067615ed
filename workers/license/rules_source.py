"""The rules in force, kept in memory: the newest catalog version, and which provider accounts take orders.

Deciding never waits for either. While the database is away, or a newer catalog cannot be read by this version of the
program, what is known stays in force; that is logged, once per cause.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Protocol

import structlog

from shared.clock import SystemClock
from shared.domain.case import Policy, Rules
from shared.domain.catalog import Catalog
from shared.errors import ConfigurationError, UnavailableError

LOOK_SECONDS = 1.0

ProviderGate = Callable[[], Awaitable[Mapping[str, bool]]]
"""Asks which provider accounts there are and whether each takes new orders; raises `UnavailableError`."""

_log = structlog.get_logger("keyway.catalog")


class CatalogShelf(Protocol):
    """Where catalogs are kept."""

    async def newer_than(self, version: int) -> Catalog | None:
        """Return the newest catalog if its version is above `version`, else None.

        Raises `UnavailableError` when nobody can tell now, `ConfigurationError` when it cannot be read here.
        """
        ...


class RefreshedRules:
    """The newest known catalog and the policy; made by `load_rules`."""

    def __init__(
        self,
        shelf: CatalogShelf,
        clock: SystemClock,
        first: Rules,
        provider_gate: ProviderGate | None = None,
    ) -> None:
        self._shelf = shelf
        self._provider_gate = provider_gate
        self._clock = clock
        self._rules = first
        self._told = ""

    def current(self) -> Rules:
        """Return the rules; never waits."""
        return self._rules

    async def watch(self) -> None:
        """Look for newer catalogs, and after the provider, until cancelled."""
        while True:
            await self._clock.sleep(LOOK_SECONDS)
            await self.look()
            await self.ask_provider()

    async def ask_provider(self) -> None:
        """Learn which provider accounts take new orders; while nobody can tell, the last answer holds."""
        if self._provider_gate is None:
            return
        try:
            accounts = await self._provider_gate()
        except UnavailableError:
            return
        known = self._rules.provider_accounts
        if accounts == known:
            return
        self._rules = replace(self._rules, provider_accounts=accounts)
        for name in sorted(accounts.keys() | known.keys()):
            accepts = accounts.get(name, False)
            if accepts is not known.get(name, False):
                _log.warning("provider.orders.taken" if accepts else "provider.orders.refused", provider_account=name)

    async def look(self) -> None:
        """Take the newest catalog if there is a newer one."""
        try:
            newer = await self._shelf.newer_than(self._rules.catalog.version)
        except (ConfigurationError, UnavailableError) as error:
            if str(error) != self._told:
                self._told = str(error)
                _log.warning("catalog.not_taken", code=error.code, reason=str(error))
            return
        self._told = ""
        if newer is not None:
            self._rules = replace(self._rules, catalog=newer)
            _log.info("catalog.taken", catalog_version=newer.version, count=len(newer.products))


async def load_rules(
    shelf: CatalogShelf, policy: Policy, clock: SystemClock, provider_gate: ProviderGate | None = None
) -> RefreshedRules:
    """Return the rules in force; run their `watch` beside the work.

    Raises `ConfigurationError` when there is no catalog yet or it cannot be read here, and `UnavailableError` when the
    database does not answer.
    """
    first = await shelf.newer_than(0)
    if first is None:
        raise ConfigurationError("there is no catalog yet: load one with `keyway catalog apply FILE`")
    rules = Rules(catalog=first, policy=policy)
    if provider_gate is not None:
        rules = replace(rules, provider_accounts=await provider_gate())
    return RefreshedRules(shelf, clock, rules, provider_gate)

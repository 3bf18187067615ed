"""From settings to working panel clients and order runners; what they stand on comes from the composition root.

Every provider account has all of its own: client, pace, bulkhead, limits, release policy. Its settings are those of the
installation with what its entry overrides, so that each is used as if it were the only one.
"""

from collections.abc import Callable, Mapping

from shared.clock import SendClock, SystemClock
from shared.domain.catalog import FIRST_PROVIDER_ACCOUNT
from shared.domain.provider_operation import ServiceKind
from shared.domain.provider_record import ClaimLimits
from shared.domain.provider_settling import ReleasePolicy, SettlingRules
from shared.errors import ConfigurationError
from shared.settings import Settings
from workers.provider.finishing import Finisher
from workers.provider.isplicense.account import PanelAccount
from workers.provider.isplicense.client import IspLicenseClient
from workers.provider.isplicense.pacing import CallPacer
from workers.provider.looking import Looker
from workers.provider.observing import LoggingProviderObserver
from workers.provider.ports import OrderBook, OutcomeAnnouncer, ProviderClient
from workers.provider.runner import OrderRunner
from workers.provider.settling import Settler


def provider_accounts(settings: Settings) -> Mapping[str, Settings]:
    """Return the provider accounts of this installation by name, each with the settings that hold for it.

    Raises `ConfigurationError` when there is none.
    """
    accounts = {FIRST_PROVIDER_ACCOUNT: settings} if settings.provider_isplicense_url else {}
    for further in settings.provider_isplicense_accounts:
        given = {f"provider_isplicense_{name}": value for name, value in further.given.items()}
        accounts[further.name] = settings.model_copy(update=given)
    if not accounts:
        raise ConfigurationError("KEYWAY_PROVIDER_ISPLICENSE_URL is not set: name the ISPlicense panel to order from")
    return accounts


def panel_account(settings: Settings) -> PanelAccount:
    """Return the panel account that `settings` describe. Raises `ConfigurationError` when it is not set or wrong."""
    if not settings.provider_isplicense_url:
        raise ConfigurationError("KEYWAY_PROVIDER_ISPLICENSE_URL is not set: name the ISPlicense panel to order from")
    deletes = {ServiceKind.SOFTWARE, ServiceKind.ISPSYSTEM}
    return PanelAccount(
        base_url=settings.provider_isplicense_url,
        user=settings.provider_isplicense_user,
        password=settings.provider_isplicense_password,
        ca_file=settings.provider_isplicense_ca_file,
        loopback_allowed=settings.provider_isplicense_loopback_allowed,
        delete_kinds=frozenset(ServiceKind) if settings.provider_isplicense_deletes_everywhere else frozenset(deletes),
    )


def panel_client(
    settings: Settings, clock: SystemClock, observer: LoggingProviderObserver | None = None
) -> IspLicenseClient:
    """Return a client of the panel, paced as the settings say. Raises `ConfigurationError`."""
    pacer = CallPacer(
        clock,
        per_second=settings.provider_isplicense_calls_per_second,
        burst=settings.provider_isplicense_calls_burst,
    )
    return IspLicenseClient(
        panel_account(settings), clock=clock, observer=observer or LoggingProviderObserver(), pacer=pacer
    )


def settling_rules(settings: Settings) -> SettlingRules:
    """Return how unknown outcomes are settled."""
    return SettlingRules(
        policy=ReleasePolicy(settings.provider_isplicense_release),
        quiet_seconds=settings.provider_isplicense_quiet_seconds,
        reads_apart_seconds=settings.provider_isplicense_looks_apart_seconds,
        give_up_after_seconds=settings.provider_isplicense_give_up_seconds,
    )


def claim_limits(settings: Settings) -> ClaimLimits:
    """Return what claims are held against."""
    return ClaimLimits(
        unresolved_max=settings.provider_isplicense_unresolved_max,
        money_in_flight_max=settings.provider_isplicense_money_in_flight,
    )


def order_runner(  # noqa: PLR0913 - what a runner stands on
    book: OrderBook,
    client: ProviderClient,
    announcer: OutcomeAnnouncer,
    *,
    limits: ClaimLimits,
    rules: SettlingRules,
    clock: SendClock,
    chance: Callable[[], float],
    provider_account: str = FIRST_PROVIDER_ACCOUNT,
    observer: LoggingProviderObserver | None = None,
) -> OrderRunner:
    """Return a runner of orders."""
    observer = observer or LoggingProviderObserver()
    looker = Looker(book=book, client=client, provider_account=provider_account)
    return OrderRunner(
        book=book,
        client=client,
        looker=looker,
        settler=Settler(book=book, looker=looker, rules=rules, provider_account=provider_account, observer=observer),
        finisher=Finisher(
            book=book, looker=looker, announcer=announcer, provider_account=provider_account, observer=observer
        ),
        limits=limits,
        provider_account=provider_account,
        clock=clock,
        chance=chance,
        observer=observer,
    )

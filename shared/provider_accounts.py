"""Further accounts at the provider, as one setting names them: a list in YAML or JSON.

Each has a name and a login of its own; what an entry leaves out holds as for the first account. The text is a secret:
nothing of it is ever quoted, only where in it something is wrong.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from shared.domain.catalog import FIRST_PROVIDER_ACCOUNT

ACCOUNTS_MAX = 32
TEXT_CHARACTERS_MAX = 65_536


class FurtherAccount(BaseModel):
    """One entry. Every member but `name` overrides the setting `KEYWAY_PROVIDER_ISPLICENSE_<MEMBER>` for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    url: str | None = None
    """None: the panel of the first account."""
    user: Annotated[str, Field(min_length=1)]
    password: Annotated[SecretStr, Field(min_length=1)]
    ca_file: Path | None = None
    release: Literal["manual", "auto"] | None = None
    calls_per_second: Annotated[float, Field(gt=0, le=1000)] | None = None
    calls_burst: Annotated[int, Field(ge=1, le=1000)] | None = None
    money_in_flight: Annotated[int, Field(ge=1, le=64)] | None = None
    unresolved_max: Annotated[int, Field(ge=1, le=1000)] | None = None
    quiet_seconds: Annotated[float, Field(ge=1, le=86_400)] | None = None
    looks_apart_seconds: Annotated[float, Field(ge=0.1, le=3600)] | None = None
    give_up_seconds: Annotated[float, Field(ge=1, le=86_400)] | None = None
    breaker_seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    back_off_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    losses_pause_seconds: Annotated[float, Field(ge=0, le=3600)] | None = None
    deletes_everywhere: bool | None = None

    @property
    def given(self) -> dict[str, object]:
        """Return the members that override a setting, by name."""
        members = {name: getattr(self, name) for name in type(self).model_fields if name != "name"}
        return {name: value for name, value in members.items() if value is not None}

    def written(self) -> dict[str, object]:
        """Return the entry as the setting writes it, password included: for a private file."""
        return {"name": self.name, **self.given, "password": self.password.get_secret_value()}


def read_accounts(given: object) -> object:
    """Return the entries in the text of the setting, unchecked. Raises `ValueError`, which quotes nothing."""
    if not isinstance(given, str):
        return given
    if len(given) > TEXT_CHARACTERS_MAX:
        raise ValueError(f"{len(given)} characters: at most {TEXT_CHARACTERS_MAX}")
    try:
        entries: object = yaml.safe_load(given) if given.strip() else []
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" at line {error.problem_mark.line + 1}"
        raise ValueError(f"not YAML or JSON{line}: write a list of accounts") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ValueError("not YAML or JSON: write a list of accounts") from None
    if not isinstance(entries, list):
        raise ValueError("not a list: write one entry per account, each with name, user and password")  # noqa: TRY004 - pydantic takes it for a complaint
    return entries


def distinct(accounts: tuple[FurtherAccount, ...]) -> tuple[FurtherAccount, ...]:
    """Return the accounts when each has a name of its own. Raises `ValueError`."""
    names = [FIRST_PROVIDER_ACCOUNT, *(account.name for account in accounts)]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        first = f"; {FIRST_PROVIDER_ACCOUNT} is the first account, whose login stands in the settings beside this one"
        raise ValueError(f"two accounts are named {', '.join(doubles)}{first}")
    return accounts

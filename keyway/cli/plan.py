"""`keyway plan`: what a modification of a key would do, from a file, without a service (partner-api 5).

The file is a JSON object: `key`, a full key structure as GET returns it; `request`, the body of the PUT; and, where
the request resets the configuration, `defaultProductConfigurationId`, the one of the key's owner. Preconditions that
depend on other keys, owners or the catalog are asked only by the service.
"""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from gateway.wire.partner import read_change
from gateway.wire.partner_errors import Fault
from keyway.cli.refusal import RefusedError
from shared.contracts.identifiers import LicenseId
from shared.contracts.key_commands import KeyMember, KeyMembers
from shared.domain.key_details import KeyDetails, KeyItem, ParentKey
from shared.domain.key_modification import guard_fits, plan
from shared.domain.key_structure import KeyView

app = typer.Typer(add_completion=False)

FAILED = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _Told(BaseModel):
    """A part of a key structure: members that are not compared are ignored."""

    model_config = ConfigDict(extra="ignore", alias_generator=AliasGenerator(validation_alias=to_camel))


class _Identifiers(_Told):
    key_id: int
    key_number: str
    activation_code: str


class _Activation(_Told):
    uid: str | None = None
    activated: bool = False


class _Item(_Told):
    item: str
    external_id: str | None = None
    quantity: int = 1


class _Key(_Told):
    owner_id: str
    key_identifiers: _Identifiers
    parent_key_identifiers: _Identifiers | None = None
    activation_info: _Activation | None = None
    ip_address_binding: str | None = None
    restrict_address: bool = Field(default=False, validation_alias="restrictIPBinding")
    nickname: str = ""
    product_configuration_id: int | None = None
    items: tuple[_Item, ...]
    terminated: bool = False
    suspended: bool = False
    auto_renew: bool = True


class _Question(_Told):
    key: _Key
    request: dict[str, object]
    default_product_configuration_id: int | None = None


@app.command(name="plan")
def show_plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON: `key`, a key structure; `request`, a PUT body.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show operations, their order and conflicts of a modification; nothing is carried out.

    Exit status 1 when the request would be refused.
    """
    question, members = _read(file)
    view = _view(question.key)
    if KeyMember.GUARD in members.given and (members.guard is None or not guard_fits(view, members.guard)):
        raise RefusedError(f"keyIdentifiers of the request do not name {view.name.number}: correct them or leave them")
    default = question.default_product_configuration_id
    planned = plan(view, members, default_configuration=view.details.configuration if default is None else default)
    if as_json:
        told = {
            "operations": planned.operations if not planned.conflicts else (),
            "conflicts": [f"{first} + {second}" for first, second in planned.conflicts],
        }
        print(orjson.dumps(told).decode())
    elif planned.conflicts:
        print(f"Conflicting operations: {planned.conflict_text}.")
    elif not planned.operations:
        print("Nothing to do: the key is as the request asks.")
    else:
        for place, operation in enumerate(planned.operations, start=1):
            print(f"{place}. {operation}")
    if planned.conflicts or (planned.operations and view.terminated):
        raise typer.Exit(FAILED)


def _read(file: Path) -> tuple[_Question, KeyMembers]:
    try:
        question = _Question.model_validate_json(file.read_bytes())
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise RefusedError(f"{file}: {where}: {first['msg']}") from None
    members = read_change(orjson.dumps(question.request))
    if isinstance(members, Fault):
        raise RefusedError(f"{file}: the service would refuse the request: {_told(members)}")
    return question, members


def _told(fault: Fault) -> str:
    values = ", ".join(f"{name} {value}" for name, value in fault.details.items())
    return f"type {fault.type}" + (f" ({values})" if values else "")


def _view(key: _Key) -> KeyView:
    """Return the key of a structure, as far as a request is compared with it."""
    names, parent, activation = key.key_identifiers, key.parent_key_identifiers, key.activation_info
    return KeyView(
        details=KeyDetails(
            key_id=names.key_id,
            activation_code=names.activation_code,
            owner=key.owner_id,
            configuration=key.product_configuration_id,
            items=tuple(
                KeyItem(item=each.item, external_id=each.external_id, quantity=each.quantity) for each in key.items
            ),
            family="",
            created_at=EPOCH,
            modified_at=EPOCH,
            update_on=None,
            nickname=key.nickname,
            auto_renew=key.auto_renew,
            address=key.ip_address_binding,
            restrict_address=key.restrict_address,
            activatable=activation is not None,
            uid=activation.uid if activation is not None and activation.activated else None,
            parent=None
            if parent is None
            else ParentKey(license_id=LicenseId(""), key_id=parent.key_id, activation_code=parent.activation_code),
        ),
        key_version=_version(names.key_number),
        expires_on=date.max,
        terminated=key.terminated,
        suspended=key.suspended,
    )


def _version(number: str) -> int:
    version = number.rpartition(".")[2]
    return int(version) if version.isascii() and version.isdigit() else 0

"""`keyway plan`: what a modification of a key would do (partner-api 5).

With `--key` and `--account` the file is the body of the PUT, and the key is the stored one: every precondition is
asked, as the license worker would. Without them nothing but the file is needed, a JSON object: `key`, a full key
structure as GET returns it; `request`, the body of the PUT; and, where the request resets the configuration,
`defaultProductConfigurationId`, the one of the key's owner. Then preconditions that depend on other keys, owners or the
catalog are not asked.
"""

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated

import orjson
import typer
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from gateway.partner_problems import plan_document
from gateway.wire.partner import read_change
from gateway.wire.partner_errors import Fault
from gateway.wire.partner_query import read_address
from keyway.cli.installation import reads_stack, stack_settings
from keyway.cli.refusal import RefusedError
from shared.contracts.identifiers import LicenseId
from shared.contracts.key_commands import KeyMember, KeyMembers
from shared.contracts.replies import KeyPlan
from shared.domain.key_details import KeyDetails, KeyItem, ParentKey
from shared.domain.key_modification import guard_fits
from shared.domain.key_modification import plan as analyze
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
@reads_stack
def show_plan(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="JSON: `key`, a key structure; `request`, a PUT body. Or just the body."),
    ],
    key: Annotated[str | None, typer.Option(help="Ask of this stored key: its id or activation code.")] = None,
    account: Annotated[str | None, typer.Option(help="With --key: the partner account that would ask.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show operations, their order and conflicts of a modification; nothing is carried out.

    Exit status 1 when the request would be refused.
    """
    if key is not None or account is not None:
        _show_foreseen(file, key, account, as_json=as_json)
        return
    question, members = _read(file)
    view = _view(question.key)
    if KeyMember.GUARD in members.given and (members.guard is None or not guard_fits(view, members.guard)):
        raise RefusedError(f"keyIdentifiers of the request do not name {view.name.number}: correct them or leave them")
    default = question.default_product_configuration_id
    planned = analyze(view, members, default_configuration=view.details.configuration if default is None else default)
    plan = KeyPlan(
        operations=() if planned.conflicts else planned.operations,
        conflicts=tuple(f"{first} + {second}" for first, second in planned.conflicts),
    )
    if as_json:
        print(orjson.dumps({"operations": plan.operations, "conflicts": plan.conflicts}).decode())
    else:
        print("\n".join(_story(plan)))
    if planned.conflicts or (planned.operations and view.terminated):
        raise typer.Exit(FAILED)


def _show_foreseen(file: Path, key: str | None, account: str | None, *, as_json: bool) -> None:
    if key is None or account is None:
        raise typer.BadParameter("--key and --account go together: name the stored key and the account that would ask")
    try:
        members = _members(file, file.read_bytes())
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}") from None
    plan = asyncio.run(_foreseen(key, account, members))
    document = plan_document(plan)
    if as_json:
        print(orjson.dumps(document).decode())
    else:
        print("\n".join(_story(plan)))
        if isinstance(refusal := document["refusal"], dict):
            print(f"Refused: type {refusal['type']}. {refusal['message']} {refusal['details']}".rstrip())
    if plan.refusal is not None:
        raise typer.Exit(FAILED)


async def _foreseen(key: str, account: str, members: KeyMembers) -> KeyPlan:
    from keyway.cli.foresight import foresee

    reference = read_address(key)
    plan = None if reference is None else await foresee(stack_settings(), account, reference, members)
    if plan is None:
        raise RefusedError(f"account {account} sees no key {key}: `keyway owner list` shows what it reaches")
    return plan


def _story(plan: KeyPlan) -> list[str]:
    if plan.conflicts:
        return [f"Conflicting operations: {'; '.join(plan.conflicts)}."]
    if not plan.operations:
        return [] if plan.refusal is not None else ["Nothing to do: the key is as the request asks."]
    return [f"{place}. {operation}" for place, operation in enumerate(plan.operations, start=1)]


def _read(file: Path) -> tuple[_Question, KeyMembers]:
    try:
        question = _Question.model_validate_json(file.read_bytes())
    except OSError as error:
        raise RefusedError(f"{file} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise RefusedError(f"{file}: {where}: {first['msg']}") from None
    return question, _members(file, orjson.dumps(question.request))


def _members(file: Path, body: bytes) -> KeyMembers:
    members = read_change(body)
    if isinstance(members, Fault):
        raise RefusedError(f"{file}: the service would refuse the request: {_told(members)}")
    return members


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

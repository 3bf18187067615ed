"""What a batch of license commands leaves about providers: open operations, the line behind them, orders.

Written in the transaction of the batch, after its one statement; only batches that concern a provider pay for it.
"""

from collections.abc import Mapping, Sequence
from typing import Final, LiteralString

import asyncpg
import orjson
from pydantic import TypeAdapter

from shared.contracts.codec import encode_provider_request
from shared.contracts.identifiers import CommandId, LicenseId
from shared.contracts.replies import ReplyAddress, ReplyStatus
from shared.contracts.topics import PROVIDER_REQUESTS
from shared.database.pool import OwnConnection
from shared.domain.effects import (
    CommandEffect,
    NewOrder,
    OpenWrite,
    StoredOpen,
    StoredReply,
    StoredResult,
    WaitingCommand,
)
from shared.domain.open_operation import OpenOperation
from shared.domain.provider_operation import (
    ChangeService,
    EndService,
    OrderModule,
    OrderPlesk,
    OrderSoftware,
    ProviderOperation,
    RenewService,
    SetNodes,
    slot_of,
)
from shared.domain.provisioning import UpstreamService
from shared.errors import ConflictError

ADDRESS_BYTES: Final = 18
PARTITION_BYTES: Final = 2

OPEN_OPERATION: Final = TypeAdapter(OpenOperation)
SERVICE: Final = TypeAdapter(UpstreamService)
OPERATIONS: Final[Mapping[str, TypeAdapter[ProviderOperation]]] = {
    kind.__name__: TypeAdapter(kind)
    for kind in (OrderSoftware, OrderPlesk, OrderModule, ChangeService, SetNodes, RenewService, EndService)
}
"""Operations as they are stored: `{"is": class name, "of": its members}`."""

OPEN: Final[LiteralString] = """
INSERT INTO open_operation (license_id, version, order_id, operation, addresses, in_line, opened_at)
VALUES ($1, 1, $2, $3, $4, $5, $6)
"""
MOVE: Final[LiteralString] = """
UPDATE open_operation SET version = version + 1, order_id = $2, operation = $3, addresses = $4, in_line = $5
WHERE license_id = $1 AND version = $6 RETURNING 1
"""
CLOSE: Final[LiteralString] = "DELETE FROM open_operation WHERE license_id = $1 AND version = $2 RETURNING 1"
LINE_UP: Final[LiteralString] = """
INSERT INTO waiting_command
    (command_id, license_id, payload_sha256, envelope, reply_partition, correlation_id, queued_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
LEAVE_LINE: Final[LiteralString] = "DELETE FROM waiting_command WHERE command_id = $1 RETURNING 1"
ORDER: Final[LiteralString] = """
INSERT INTO provider_order
    (order_id, license_id, account_id, number, provider_account, kind, step, operation, slot_key, intended_at)
VALUES ($1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9, $10)
"""
FIRST_STEP: Final[LiteralString] = """
INSERT INTO provider_step (order_id, at, state_after, trigger, attempt) VALUES ($1, $2, 'intended', 'intended', 0)
"""
BELL: Final[LiteralString] = """
INSERT INTO outbox (event_id, topic, key, license_id, command_id, type, value, created_at)
VALUES ($1, $2, $3, $3, $4, 'provider.request', $5, $6)
"""
SETTLE: Final[LiteralString] = "UPDATE provider_order SET settled_at = $2 WHERE order_id = $1 AND settled_at IS NULL"
CANCEL: Final[LiteralString] = """
UPDATE provider_order SET cancel_requested_at = $2,
    due_at = CASE WHEN state = 'sending' THEN due_at ELSE clock_timestamp() END
WHERE order_id = $1 AND cancel_requested_at IS NULL
"""
TELL: Final[LiteralString] = """
INSERT INTO outbox (event_id, topic, key, license_id, command_id, type, value, created_at)
VALUES ($1, $2, $3, $3, $4, $5, $6, $7)
"""
READ_LINE: Final[LiteralString] = """
SELECT license_id, command_id, envelope, reply_partition, correlation_id
FROM waiting_command WHERE license_id = ANY($1::text[]) ORDER BY license_id, position
"""


async def write_provider_parts(connection: OwnConnection, effects: Sequence[CommandEffect], events_topic: str) -> None:
    """Write what `effects` say about providers, inside the caller's transaction.

    Raises `ConflictError` when an open operation or a line is no longer as it was read.
    """
    for effect in effects:
        if effect.left_line and await connection.fetchval(LEAVE_LINE, effect.command_id) is None:
            raise ConflictError(f"command {effect.command_id} left the line meanwhile")
        if effect.waiting is not None:
            await _line_up(connection, effect, effect.waiting)
        for order in effect.orders:
            await _order(connection, effect, order)
        if effect.settled_order is not None:
            await connection.execute(SETTLE, effect.settled_order, effect.handled_at)
        if effect.canceled_order is not None:
            await connection.execute(CANCEL, effect.canceled_order, effect.handled_at)
        if effect.open is not None:
            await _open(connection, effect, effect.open)
        for event in effect.attention:
            await connection.execute(
                TELL,
                event.event_id,
                events_topic,
                effect.license_id,
                effect.command_id,
                event.type,
                event.value,
                effect.handled_at,
            )


async def _line_up(connection: OwnConnection, effect: CommandEffect, waiting: WaitingCommand) -> None:
    address = waiting.address
    await connection.execute(
        LINE_UP,
        effect.command_id,
        effect.license_id,
        effect.payload_sha256,
        waiting.envelope,
        None if address is None else address.partition,
        None if address is None else address.correlation_id,
        effect.handled_at,
    )


async def _order(connection: OwnConnection, effect: CommandEffect, order: NewOrder) -> None:
    await connection.execute(
        ORDER,
        order.order_id,
        effect.license_id,
        order.account,
        order.number,
        order.step.account,
        order.step.kind.value,
        orjson.dumps(order.step, default=str).decode(),
        encode_operation(order.operation),
        slot_of(order.operation),
        effect.handled_at,
    )
    await connection.execute(FIRST_STEP, order.order_id, effect.handled_at)
    await connection.execute(
        BELL,
        order.order_id,
        PROVIDER_REQUESTS,
        effect.license_id,
        effect.command_id,
        encode_provider_request(order.order_id),
        effect.handled_at,
    )


async def _open(connection: OwnConnection, effect: CommandEffect, write: OpenWrite) -> None:
    operation = write.operation
    if operation is None:
        if write.version_before == 0:
            return
        done = await connection.fetchval(CLOSE, effect.license_id, write.version_before)
    elif write.version_before == 0:
        await connection.execute(
            OPEN,
            effect.license_id,
            operation.order_id,
            OPEN_OPERATION.dump_json(operation),
            pack_addresses(write.addresses),
            write.in_line,
            effect.handled_at,
        )
        return
    else:
        done = await connection.fetchval(
            MOVE,
            effect.license_id,
            operation.order_id,
            OPEN_OPERATION.dump_json(operation),
            pack_addresses(write.addresses),
            write.in_line,
            write.version_before,
        )
    if done is None:
        raise ConflictError(f"the open operation of {effect.license_id} moved on since it was read")


def encode_operation(operation: ProviderOperation) -> str:
    """Return an operation as the JSON in which it is stored."""
    kind = type(operation).__name__
    return orjson.dumps({"is": kind, "of": OPERATIONS[kind].dump_python(operation, mode="json")}).decode()


def decode_operation(text: str) -> ProviderOperation:
    """Return the operation in stored JSON."""
    stored = orjson.loads(text)
    return OPERATIONS[stored["is"]].validate_python(stored["of"])


def encode_service(service: UpstreamService | None) -> str | None:
    """Return an upstream service as the JSON in which it is stored."""
    return None if service is None else SERVICE.dump_json(service).decode()


def decode_service(text: str | None) -> UpstreamService | None:
    """Return the upstream service in stored JSON."""
    return None if text is None else SERVICE.validate_json(text)


def pack_addresses(addresses: Sequence[ReplyAddress]) -> bytes:
    """Return reply addresses, 18 bytes each."""
    return b"".join(
        address.partition.to_bytes(PARTITION_BYTES, "big") + address.correlation_id for address in addresses
    )


def unpack_addresses(packed: bytes) -> tuple[ReplyAddress, ...]:
    """Return the reply addresses in stored bytes."""
    return tuple(
        ReplyAddress(
            correlation_id=packed[start + PARTITION_BYTES : start + ADDRESS_BYTES],
            partition=int.from_bytes(packed[start : start + PARTITION_BYTES], "big"),
        )
        for start in range(0, len(packed), ADDRESS_BYTES)
    )


def stored_open(row: asyncpg.Record) -> StoredOpen:
    """Return the open operation in a row of table `open_operation`."""
    return StoredOpen(
        operation=OPEN_OPERATION.validate_json(row["operation"]),
        addresses=unpack_addresses(row["addresses"]),
        in_line=row["in_line"],
        version=row["version"],
    )


def result_in_line(row: asyncpg.Record) -> StoredResult:
    """Return what is remembered of a command that stands in line."""
    return StoredResult(payload_sha256=row["payload_sha256"], reply=StoredReply(status=ReplyStatus.IN_LINE), body=b"")


async def read_line(
    connection: OwnConnection, license_ids: Sequence[LicenseId]
) -> Mapping[LicenseId, tuple[WaitingCommand, ...]]:
    """Return the commands in line behind the open operations of the licenses, in order."""
    lines: dict[LicenseId, list[WaitingCommand]] = {}
    for row in await connection.fetch(READ_LINE, license_ids):
        partition = row["reply_partition"]
        address = None if partition is None else ReplyAddress(row["correlation_id"], partition)
        waiting = WaitingCommand(command_id=CommandId(row["command_id"]), envelope=row["envelope"], address=address)
        lines.setdefault(LicenseId(row["license_id"]), []).append(waiting)
    return {license_id: tuple(line) for license_id, line in lines.items()}

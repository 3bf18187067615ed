"""From what the driver raises to what the reader should do next: conflict, unavailable, or refused.

Only the kind of a failure, its SQLSTATE and the names of table and constraint are told: the server's own texts quote
values, and values are somebody's activation data.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg

from shared.errors import ConflictError, KeywayError, StoreRefusedError, UnavailableError

MOVED_ON = "KW001"
"""Raised by our own function `require_every_update`: a license is no longer as it was read."""
CONFLICTS = frozenset(
    {
        MOVED_ON,
        asyncpg.UniqueViolationError.sqlstate,
        asyncpg.SerializationError.sqlstate,
        asyncpg.DeadlockDetectedError.sqlstate,
    }
)
REFUSED_CLASSES = frozenset({"22", "23", "54"})
"""Data exception, integrity violation, limit exceeded: this value will never fit."""


def mapped(error: Exception, action: str) -> KeywayError:
    """Return our error for whatever `asyncpg` raised during `action`."""
    match error:
        case KeywayError():
            return error
        case asyncpg.PostgresError():
            return _of_server(error, action)
        case UnicodeError() | OverflowError():
            return StoreRefusedError(f"{action}: {type(error).__name__}: the driver cannot encode a value")
        case asyncpg.InterfaceError() if isinstance(error, ValueError):  # the driver's own DataError has no public name
            return StoreRefusedError(f"{action}: {type(error).__name__}: the driver cannot encode a value")
        case _:
            return UnavailableError(f"{action}: {type(error).__name__}: the database does not answer")


def _of_server(error: asyncpg.PostgresError, action: str) -> KeywayError:
    sqlstate = error.sqlstate or "?????"
    told = f"{action}: {type(error).__name__} (SQLSTATE {sqlstate})"
    where = [str(part) for part in (error.table_name, error.constraint_name) if part]
    if where:
        told += f" at {'.'.join(where)}"
    if sqlstate in CONFLICTS:
        return ConflictError(told)
    if sqlstate[:2] in REFUSED_CLASSES:
        return StoreRefusedError(told)
    if sqlstate[:2] == "42":
        return UnavailableError(f"{told}: the schema is not the one expected; run `keyway migrate`")
    return UnavailableError(told)


@asynccontextmanager
async def mapped_failures(action: str) -> AsyncIterator[None]:
    """Turn every driver failure inside the block into one of ours; cancellation passes."""
    try:
        yield
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError) as error:
        raise mapped(error, action) from None
    except (UnicodeError, OverflowError) as error:
        raise mapped(error, action) from None

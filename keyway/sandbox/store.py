"""State on disk and in memory, changed together: rows go to the log first and to the tables after.

So whatever an answer shows was written before, and `durable` makes it survive the machine as well.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import orjson

from keyway.sandbox.journal import Journal, JournalEntry, encode_entry
from keyway.sandbox.log import EffectLog
from keyway.sandbox.rows import Account, Payment, Row, World
from keyway.sandbox.state import State, decode_rows, encode_rows
from shared.clock import BusinessClock

COMPACT_BYTES_MIN = 64 * 1024 * 1024
_ROWS_PER_LINE = 1000
_CREDITED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What an empty sandbox starts with; the accounts are also put right at every start."""

    seed: str
    user: str
    password: str
    balance: int
    """What every account starts with."""
    further: Mapping[str, str] = field(default_factory=dict, repr=False)
    """User -> password of the accounts beside the first."""


class Store:
    """The sandbox's only memory. `epoch` grows at each reset, so that a call from before it can tell."""

    def __init__(self, log: EffectLog, opening: Opening, clock: BusinessClock) -> None:
        """Read the log, or begin it. Raises `ConfigurationError` when it is damaged."""
        self._log = log
        self._opening = opening
        self._clock = clock
        self.epoch = 0
        self.state, self.journal = self._empty()
        for payload in log.replay():
            self._replay_line(payload)
        self._compact_at = COMPACT_BYTES_MIN
        self._compact()
        for user, password in {opening.user: opening.password, **opening.further}.items():
            known = self.state.accounts.get(user)
            if known is None:
                world = self.state.world if self.state.accounts else World(seed=opening.seed)
                self.commit(self._opened_account(user, password, world))
            elif known.password != password:
                self.commit([replace(known, password=password)])

    @property
    def seed(self) -> str:
        """The seed that the process was started with."""
        return self._opening.seed

    def commit(self, rows: Iterable[Row]) -> None:
        """Write rows and take them over. Raises `OSError`, with nothing changed, when they cannot be written."""
        kept = list(rows)
        if not kept:
            return
        self._log.append(encode_rows(kept), is_effect=True)
        self.state.apply(kept)
        if self._log.size_bytes > self._compact_at:
            self._compact()

    def record(self, entry: JournalEntry) -> None:
        """Write a journal entry and keep it. Nobody waits for the disk: the file system has it."""
        encoded = encode_entry(entry)
        self._log.append(encoded, is_effect=False)
        self.journal.keep(entry.number, encoded)

    async def durable(self) -> None:
        """Return once everything committed so far is on disk."""
        await self._log.durable()

    def reset(self, world: World | None = None) -> None:
        """Forget everything and start again as at the first start, with the counters of `world` when given."""
        self.epoch += 1
        self.state, self.journal = self._empty()
        opening = self._opening
        kept: list[list[Row]] = []
        for user, password in {opening.user: opening.password, **opening.further}.items():
            before = self.state.world if kept else world or World(seed=opening.seed)
            kept.append(self._opened_account(user, password, before))
            self.state.apply(kept[-1])
        self._log.restart([encode_rows(rows) for rows in kept])
        self._compact_at = COMPACT_BYTES_MIN

    def close(self) -> None:
        """Sync and close the log."""
        self._log.close()

    def _empty(self) -> tuple[State, Journal]:
        return State(World(seed=self._opening.seed)), Journal()

    def _opened_account(self, user: str, password: str, world: World) -> list[Row]:
        balance = self._opening.balance
        return [
            replace(world, next_payment_id=world.next_payment_id + 1),
            Account(user=user, password=password, balance=balance),
            Payment(
                id=world.next_payment_id,
                user=user,
                created_at=self._clock.now(),
                status=_CREDITED,
                amount=balance,
            ),
        ]

    def _replay_line(self, payload: bytes) -> None:
        content = orjson.loads(payload)
        if isinstance(content, dict):
            self.journal.keep(content["number"], payload)
        else:
            self.state.apply(decode_rows(content))

    def _compact(self) -> None:
        self._log.compact(self._snapshot())
        self._compact_at = max(COMPACT_BYTES_MIN, 4 * self._log.size_bytes)

    def _snapshot(self) -> Iterator[bytes]:
        rows = list(self.state.rows())
        for start in range(0, len(rows), _ROWS_PER_LINE):
            yield encode_rows(rows[start : start + _ROWS_PER_LINE])
        yield from self.journal.entries()

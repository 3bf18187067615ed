"""The log of public requests in memory: the same promises as PostgreSQL's, kept by the same conformance suite."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from shared.domain.effects import OutboxEvent
from shared.domain.intake import KnownRequest, NewRequest
from shared.errors import StoreRefusedError, UnavailableError

Key = tuple[str, str]


@dataclass
class InMemoryRequestLog:
    """Requests in a dictionary; `away_times` calls find the database gone."""

    accounts: set[str] = field(default_factory=lambda: {"ka"})
    known: dict[Key, KnownRequest] = field(default_factory=dict)
    answers: list[OutboxEvent] = field(default_factory=list)
    away_times: int = 0

    async def known_accounts(self, names: Collection[str]) -> frozenset[str]:
        """Return those of `names` that are accounts."""
        self._ask()
        return frozenset(names) & self.accounts

    async def remember(self, requests: Sequence[NewRequest], at: datetime) -> Mapping[Key, KnownRequest]:
        """Remember the requests that are new, with their answers."""
        self._ask()
        for each in requests:
            if any("\0" in part for part in each.request.key):
                raise StoreRefusedError("a text holds what no database can")
        for each in requests:
            if each.request.key in self.known:
                continue
            self.known[each.request.key] = KnownRequest(
                command_id=each.command_id,
                content_sha256=each.request.content_sha256,
                is_handed_over=each.answer is not None,
            )
            if each.answer is not None:
                self.answers.append(each.answer)
        return {each.request.key: self.known[each.request.key] for each in requests}

    async def hand_over(self, keys: Collection[Key], at: datetime) -> None:
        """Note that the commands of these requests stand on the topic."""
        self._ask()
        for key in keys:
            self.known[key] = replace(self.known[key], is_handed_over=True)

    async def ping(self) -> None:
        """Ask for a sign of life."""
        self._ask()

    def _ask(self) -> None:
        if self.away_times:
            self.away_times -= 1
            raise UnavailableError("the database is away")

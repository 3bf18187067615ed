"""Who may decide what a machine must not: ordering again what may exist takes two people (isplicense 9.3)."""

from collections.abc import Iterable
from dataclasses import dataclass

NAME_CHARACTERS_MAX = 80


@dataclass(frozen=True, slots=True)
class TwoPeople:
    """Two or more different people who decided together; `of` is the only way to have some."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        """Hold whoever makes one by hand to the same rule."""
        assert len(_different(self.names)) > 1, "two people must decide"  # noqa: S101 - `of` is the door

    @classmethod
    def of(cls, names: Iterable[str]) -> "TwoPeople | None":
        """Return the people with these names, None when they are not two: neither capitals nor blanks make another."""
        people = _different(names)
        return cls(people) if len(people) > 1 else None

    def __str__(self) -> str:
        """Return the names as they go on record."""
        return ", ".join(self.names)


def _different(names: Iterable[str]) -> tuple[str, ...]:
    people: dict[str, str] = {}
    for name in names:
        told = " ".join(name.split())[:NAME_CHARACTERS_MAX]
        if told:
            people.setdefault(told.casefold(), told)
    return tuple(people.values())

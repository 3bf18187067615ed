"""What a record on `provider.requests` rings for. It says nothing else: what is due stands in the database.

A new kind of bell is a new member of version 1: provider workers are renewed before those who ring it.
"""

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True, slots=True)
class OrderBell:
    """An order to carry on."""

    order_id: UUID


@dataclass(frozen=True, slots=True)
class SweepBell:
    """A comparison with the provider to carry out."""

    sweep_id: UUID

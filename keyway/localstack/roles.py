"""The worker roles that `keyway up` starts: one line per role that exists."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Role:
    """A worker role and how many processes of it a local stack has unless told otherwise."""

    name: str
    count: int


WORKER_ROLES = (
    Role("license", 1),
    Role("provider", 1),
    Role("usage", 1),
    Role("intake", 1),
    Role("relay", 1),
    Role("scheduler", 1),
)

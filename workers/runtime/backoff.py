"""How long to wait before trying a machine again: bounded, growing, and with chance in it."""

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 1.0
EXPONENT_MAX = 10


def delay_seconds(attempt: int, chance: float) -> float:
    """Return the seconds to wait after failed attempt number `attempt` (from 1); `chance` is in [0, 1).

    It doubles from `FIRST_SECONDS` up to `LONGEST_SECONDS`; chance takes off up to half, so that many workers do not
    come back to a recovering machine in step.
    """
    whole = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempt - 1, EXPONENT_MAX))
    return whole * (1 - chance / 2)

"""The judge of a KA's history: whatever crashed, what was once answered must stay true.

The history of one license is the list of its exchanges, one after the other (a KA never has two open for the same
license here). Expected of every operation that the rules allow:

- no 4xx, ever;
- the first `ok` of a request fixes body and expiry; a repeat of any request answered before gets the current ones;
- TERMINATE is answered 204 or 200 (a repeat finds it done, isv-endpoint 5.4);
- an `info` leaves the request open, and somebody must have asked again: the last exchange of each request is `ok`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from keyway.ka.client import Exchange, Outcome
from keyway.ka.forms import Form


def contradictions(history: Iterable[Exchange]) -> list[str]:
    """Return one sentence per answer that contradicts an earlier one or was never given; empty when all is well."""
    by_license: dict[str, list[Exchange]] = defaultdict(list)
    for exchange in sorted(history, key=lambda exchange: exchange.sent_at):
        by_license[exchange.number].append(exchange)
    return [fault for exchanges in by_license.values() for fault in _faults(exchanges)]


def _faults(exchanges: Sequence[Exchange]) -> Iterator[str]:
    acknowledged: set[Form] = set()
    open_forms: set[Form] = set()
    current: tuple[int | None, str | None, bytes] | None = None
    for exchange in exchanges:
        match exchange.outcome:
            case Outcome.INFO:
                open_forms.add(exchange.form)
            case Outcome.FAIL:
                yield f"refused although the rules allow it: {exchange}"
            case Outcome.OK:
                open_forms.discard(exchange.form)
                if exchange.action == "TERMINATE":
                    continue
                told = (exchange.status, exchange.expiry, exchange.body)
                if exchange.form in acknowledged and told != current:
                    yield f"a repeat contradicts what was answered before ({current}): {exchange}"
                acknowledged.add(exchange.form)
                current = told
    for form in open_forms:
        last = next(exchange for exchange in reversed(exchanges) if exchange.form == form)
        yield f"never settled: {last}"

"""The provider's panel made to hang while the complete system is measured: local products must not feel it.

Before each measurement the panel stops answering and some provider products are bought, so that every part of the
provider role waits for it; afterwards the panel answers again and the orders are carried out.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from itertools import count
from urllib.parse import urlsplit

import orjson

from bench.contestants import Contestant, ContestantFailedError, system
from keyway.ka import http
from keyway.ka.forms import Order
from keyway.ka.local_stack import Stack

ORDERS_AT_ONCE = 8
ASKED_SECONDS = 2.0
"""So long each buyer waits; what was asked then hangs without him."""
PATIENCE_SECONDS = 10.0
FIRST_NUMBER = 10_000_000
"""Eight digits: the load's own numbers have ten."""
HANG: Mapping[str, object] = {
    "match": {"func": "*", "user": "*"},
    "mode": "hang",
    "phase": "before",
    "args": {"max_ms": 60_000},
    "times": None,
}
OK = 200


def system_beside_a_hanging_provider(stack: Stack) -> Contestant:
    """Return the complete system once more; while it is measured, its provider hangs."""
    plain = system(stack)
    numbers = count(FIRST_NUMBER)

    @contextmanager
    def hanging() -> Iterator[None]:
        asyncio.run(_begin(stack, [f"{next(numbers)}" for _ in range(ORDERS_AT_ONCE)]))
        try:
            yield
        finally:
            asyncio.run(_control(stack, "DELETE", b""))

    return Contestant(
        name="H",
        port=plain.port,
        account=plain.account,
        secret=plain.secret,
        processes=plain.processes,
        beside=hanging,
    )


async def _begin(stack: Stack, numbers: list[str]) -> None:
    await _control(stack, "POST", orjson.dumps(HANG))
    buyer = stack.administrator(patience_seconds=ASKED_SECONDS)
    orders = [
        Order(
            number=number,
            product="ISPMGR6-LITE",
            expires_on=date(2099, 12, 31),
            activation_data=f"198.18.{int(number) // 250 % 250}.{int(number) % 250 + 1}",
        )
        for number in numbers
    ]
    told = await asyncio.gather(*(buyer.purchase(order) for order in orders))
    answered = [exchange for exchange in told if exchange.status is not None]
    if answered:
        raise ContestantFailedError(f"the provider should hang, but a purchase was answered: {answered[0]}")


async def _control(stack: Stack, method: str, body: bytes) -> None:
    if stack.panel is None:
        raise ContestantFailedError("the provider of this stack is no sandbox: it cannot be made to hang")
    root = urlsplit(stack.panel)
    address = http.Address.of(f"{root.scheme}://{root.netloc}/__sandbox/faults")
    headers = {"Content-Type": "application/json"} if body else {}
    request = http.render(address, headers, body, method=method)
    try:
        answer = await http.exchange(address, request, timeout_seconds=PATIENCE_SECONDS)
    except http.NoAnswerError as error:
        raise ContestantFailedError(f"the sandbox does not answer: {error}") from None
    if answer.status != OK:
        raise ContestantFailedError(f"the sandbox refused {method} faults: {answer.status}")

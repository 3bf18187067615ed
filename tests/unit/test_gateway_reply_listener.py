"""The listener: a canary that comes too late is still known for one, and not counted as somebody's late reply."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.reply_listener import CANARY, LATE_CANARIES_MAX, ReplyListener
from shared.clock import MachineClock
from shared.contracts.envelope import new_id
from shared.contracts.replies import encode_frame, pack_frames
from shared.telemetry.metrics import GatewayMetrics

pytestmark = pytest.mark.asyncio


class SlowBroker:
    """Producer and consumer of one partition; hands out what was sent once it is told to."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.sent: list[bytes] = []

    async def send(self, _topic: str, value: bytes, *, partition: int) -> asyncio.Future[Any]:
        del partition
        self.sent.append(value)
        acknowledged: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        acknowledged.set_result(None)
        return acknowledged

    async def getmany(self, *, timeout_ms: int) -> dict[str, list[Any]]:
        del timeout_ms
        await self.open.wait()
        await asyncio.sleep(0)
        values, self.sent = self.sent, []
        return {"0": [SimpleNamespace(value=value) for value in values]}


class NobodyWaits:
    def take(self, _correlation_id: bytes, _reply: object) -> bool:
        return False


def listening(broker: Any) -> tuple[ReplyListener, CollectorRegistry]:
    registry, bus = CollectorRegistry(), NobodyWaits()
    made = ReplyListener(
        consumer=broker,
        producer=broker,
        bus=bus,  # type: ignore[arg-type]  # all that it is asked
        topic="replies",
        partition=0,
        clock=MachineClock(),
        metrics=GatewayMetrics.bound_to(registry),
    )
    return made, registry


async def test_a_canary_that_comes_too_late_is_no_late_reply() -> None:
    broker = SlowBroker()
    listener, registry = listening(broker)
    for _ in range(2):
        with pytest.raises(TimeoutError):
            await listener.canary(timeout_seconds=0.01)
    (stranger,) = pack_frames([encode_frame(new_id().bytes, CANARY)])
    await broker.send("replies", stranger, partition=0)
    running = asyncio.create_task(listener.run())
    broker.open.set()
    await listener.canary(timeout_seconds=30)  # comes after all of them
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert registry.get_sample_value("keyway_gateway_replies_dropped_total", {"reason": "late"}) == 1


async def test_canaries_that_never_come_are_forgotten() -> None:
    listener, _ = listening(SlowBroker())
    for _ in range(LATE_CANARIES_MAX + 5):
        with pytest.raises(TimeoutError):
            await listener.canary(timeout_seconds=0)

    assert len(listener._canaries) == LATE_CANARIES_MAX

"""Ready means answered lately: a probe nobody refreshes goes stale by itself."""

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
import pytest
from prometheus_client import CollectorRegistry

from shared.errors import ConfigurationError
from shared.telemetry.health import Readiness, ops_application, serve_ops


@dataclass
class StillClock:
    seconds: float = 0.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def test_process_without_any_answer_is_not_ready() -> None:
    readiness = Readiness(StillClock())

    assert not readiness.is_ready
    readiness.probe("kafka", stale_after_seconds=5)
    assert not readiness.is_ready


def test_ready_until_the_oldest_answer_is_stale() -> None:
    clock = StillClock()
    readiness = Readiness(clock)
    kafka, postgres = (readiness.probe(name, stale_after_seconds=5) for name in ("kafka", "postgres"))

    kafka.succeeded("broker 1")
    postgres.succeeded()
    fresh = readiness.is_ready
    clock.seconds = 5.5
    kafka.succeeded("broker 1")

    assert fresh
    assert not readiness.is_ready
    assert (kafka.is_ok, postgres.is_ok) == (True, False)


def test_failure_counts_at_once() -> None:
    readiness = Readiness(StillClock())
    kafka = readiness.probe("kafka", stale_after_seconds=5)

    kafka.succeeded()
    kafka.failed("no answer in 2 s")

    assert not readiness.is_ready
    assert kafka.detail == "no answer in 2 s"


def test_report_is_json_with_one_line_per_dependency() -> None:
    readiness = Readiness(StillClock())
    readiness.probe("kafka", stale_after_seconds=5).succeeded("broker 1")
    readiness.probe("postgres", stale_after_seconds=5).failed("no answer")

    report = readiness.report()

    assert [part["ok"] for part in orjson.loads(report)["dependencies"]] == [True, False]
    assert [b'"kafka"' in line for line in report.splitlines() if b'"name"' in line] == [True, False]


def test_probe_name_is_taken_once() -> None:
    readiness = Readiness(StillClock())
    readiness.probe("kafka", stale_after_seconds=5)

    with pytest.raises(ValueError, match="kafka"):
        readiness.probe("kafka", stale_after_seconds=5)


@pytest.mark.asyncio
async def test_an_admin_port_that_is_taken_is_told_as_a_wrong_setting() -> None:
    application = ops_application(Readiness(StillClock()), CollectorRegistry())
    second = ops_application(Readiness(StillClock()), CollectorRegistry())

    async with serve_ops(application, "127.0.0.1", 0) as port:
        with pytest.raises(ConfigurationError, match=rf"127\.0\.0\.1:{port} .*KEYWAY_ADMIN_PORT"):
            async with serve_ops(second, "127.0.0.1", port):
                pass


@pytest.mark.asyncio
async def test_what_fails_while_the_admin_port_is_open_is_not_blamed_on_the_port() -> None:
    with pytest.raises(ConnectionResetError):
        async with serve_ops(ops_application(Readiness(StillClock()), CollectorRegistry()), "127.0.0.1", 0):
            raise ConnectionResetError

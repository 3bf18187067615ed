"""Connections of the public port: callers who leave in crowds, too many of them, TLS, and what the log may hold."""

import asyncio
import gc
import io
import json
import resource
import select
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.problems import Refused, Unanswered
from gateway.routes import whole_response
from gateway.routes.journal import LINES_PER_SECOND_MAX
from gateway.server import tls_context
from shared.clock import MachineClock
from shared.contracts.commands import LicenseCommand
from shared.contracts.identifiers import CommandId
from shared.contracts.replies import Reply, ReplyStatus
from shared.errors import ConfigurationError
from shared.settings import load_settings
from shared.telemetry.logging import configure_logging
from tests.integration.test_gateway_http import Port, purchase, request, taken_apart

pytestmark = pytest.mark.asyncio

CLOCK = MachineClock()
CALLERS = 256
PATIENCE_SECONDS = 30.0
SECRETS = ("demo-only", "ZGVtby1vbmx5", "hush-hush", "60321")


class HangingBus:
    """Never replies; counts who waits."""

    def __init__(self) -> None:
        self.waiting = 0
        self.asked = 0

    async def ask(
        self, _command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        assert (command_id.version, trace_parent) == (7, None)
        self.waiting += 1
        self.asked += 1
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.waiting -= 1
        raise AssertionError("the future above is never done")


@pytest.fixture
def log_lines() -> io.BytesIO:
    gc.collect()  # what earlier tests left is complained about now, not in the test's own log
    stream = io.BytesIO()
    configure_logging("DEBUG", "gateway", stream=stream)
    return stream


def lines_of_the_gateway(stream: io.BytesIO) -> list[dict[str, Any]]:
    """Return what was logged, without what Kafka's clients say: none of these ports has one, other tests had."""
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    return [line for line in lines if not str(line.get("logger", "")).startswith("aiokafka")]


async def until(condition: Callable[[], bool]) -> None:
    """Return once `condition` holds."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await CLOCK.sleep(0.02)


async def is_cut(port: Port) -> bool:
    """Whether a new connection ends without an answer; what was sent on it may make the end a reset."""
    try:
        return await port.send(request(purchase().encode())) == b""
    except ConnectionError:
        return True


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def test_a_crowd_that_hangs_up_frees_all_places_at_once_and_leaves_no_line(log_lines: io.BytesIO) -> None:
    bus = HangingBus()
    port = Port(bus)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    port.port = await port.server.open("127.0.0.1", 0, None)
    try:
        assert taken_apart(await port.send(request(b"", method="GET"))).status == 405
        writers = []
        for number in range(CALLERS):
            _reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
            writer.write(request(purchase(number=str(number)).encode()))
            writers.append(writer)
        await until(lambda: bus.waiting == CALLERS)
        log_lines.truncate(0)
        log_lines.seek(0)
        began = cpu_seconds()
        for writer in writers:
            writer.transport.abort()
        await until(lambda: bus.waiting == 0)
        assert cpu_seconds() - began < 0.5
        await asyncio.sleep(0.1)
    finally:
        await port.server.close(answer_seconds=1)
        asyncio.get_running_loop().set_exception_handler(None)
    assert not complaints
    assert lines_of_the_gateway(log_lines) == []


async def test_a_caller_gone_when_its_answer_is_ready_leaves_no_line(log_lines: io.BytesIO) -> None:
    class SlowBus(HangingBus):
        async def ask(
            self, _command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
        ) -> Reply | Unanswered | Refused:
            assert (command_id.version, trace_parent) == (7, None)
            self.asked += 1
            return Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", b"x" * 3_000_000)

    bus = SlowBus()
    port = Port(bus)
    port.port = await port.server.open("127.0.0.1", 0, None)
    for _caller in range(20):
        _reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        writer.write(request(purchase().encode()).replace(b"Connection: close\r\n", b"") * 3)
        await asyncio.sleep(0.02)
        writer.transport.abort()
    await asyncio.sleep(0.2)
    await port.server.close(answer_seconds=1)
    assert bus.asked
    assert lines_of_the_gateway(log_lines) == []


class LongAnswers(HangingBus):
    """Replies with more than the system keeps for a caller that does not read."""

    async def ask(
        self, _command: LicenseCommand, *, command_id: CommandId, trace_parent: bytes | None = None
    ) -> Reply | Unanswered | Refused:
        assert (command_id.version, trace_parent) == (7, None)
        self.asked += 1
        return Reply(ReplyStatus.LICENSE_BODY, b"2027-03-15", b"x" * 20_000_000)


async def test_a_caller_who_does_not_read_is_cut_off_and_a_slow_one_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_response, "TAKE_SECONDS", 0.3)
    port = Port(LongAnswers())
    port.port = await port.server.open("127.0.0.1", 0, None)
    try:
        with socket.create_connection(("127.0.0.1", port.port)) as silent:
            silent.sendall(request(purchase().encode()))
            hung_up = select.poll()
            hung_up.register(silent, 0)  # errors and the end of the connection are always told
            assert await asyncio.to_thread(hung_up.poll, 10_000)

        reader, writer = await asyncio.open_connection("127.0.0.1", port.port, limit=1024)
        writer.write(request(purchase().encode()))
        taken = 0
        async with asyncio.timeout(30):
            while part := await reader.read(1_000_000):
                taken += len(part)
                await asyncio.sleep(0.02)  # so that all of it takes several times as long as the first caller had
        assert taken > 20_000_000
        writer.close()
    finally:
        await port.server.close(answer_seconds=1)


async def test_more_connections_than_allowed_are_cut_and_the_others_served() -> None:
    port = Port()
    port.port = await port.server.open("127.0.0.1", 0, None)
    try:
        crowd = [await asyncio.open_connection("127.0.0.1", port.port) for _ in range(port.connections_max)]
        assert await is_cut(port)
        crowd[0][1].write(request(purchase().encode()))
        assert taken_apart(await crowd[0][0].read()).status == 200
        for _reader, writer in crowd:
            writer.transport.abort()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await is_cut(port):  # until the ends of the others are noticed
                await CLOCK.sleep(0.02)
        assert (await port.ask(purchase())).status == 200
    finally:
        await port.server.close(answer_seconds=1)


async def test_failures_are_logged_with_nothing_secret_and_successes_not_at_all(log_lines: io.BytesIO) -> None:
    port = Port()
    port.port = await port.server.open("127.0.0.1", 0, None)
    try:
        secret = "&ACTIVATION_DATA=hush-hush%0D%0Afake"
        assert (await port.ask(purchase(tail=secret))).status == 200
        assert lines_of_the_gateway(log_lines) == []
        assert (await port.ask(purchase(tail=secret, product="Gold"))).status == 409
        assert (await port.ask(purchase(tail="&ACTIVATION_DATA=hush-hush%zz"))).status == 400
        assert (await port.ask(purchase(), pair="ka-bridge:hush-hush")).status == 403
        form = "APS_ACTION=TERMINATE&PURCHASE_ID=1&PREVIOUS_LICENSE_BODY=hush-hush"
        assert (await port.ask(form)).status == 200
    finally:
        await port.server.close(answer_seconds=1)
    lines = lines_of_the_gateway(log_lines)
    assert [line["event"] for line in lines] == ["gateway.request.failed"] * 3 + ["gateway.previous_body.ignored"]
    assert lines[0] | {"at": 0, "duration_ms": 0, "correlation_id": 0} == {
        "event": "gateway.request.failed",
        "route": "purchase_license",
        "status": 409,
        "duration_ms": 0,
        "account": "ka-bridge",
        "reason": "license_exists",
        "correlation_id": 0,
        "level": "info",
        "at": 0,
        "process": "gateway",
    }
    for secret in SECRETS:
        assert secret.encode() not in log_lines.getvalue()


async def test_an_outage_does_not_drown_the_log(log_lines: io.BytesIO) -> None:
    port = Port()
    port.port = await port.server.open("127.0.0.1", 0, None)
    one = request(b"", method="GET", pair=None).replace(b"Connection: close\r\n", b"")
    began = int(CLOCK.monotonic())
    try:
        data = await port.send(one * 399 + request(b"", method="GET", pair=None))
    finally:
        await port.server.close(answer_seconds=1)
    seconds = int(CLOCK.monotonic()) - began + 1
    assert data.count(b"HTTP/1.1 405") == 400
    assert log_lines.getvalue().count(b"gateway.request.failed") <= LINES_PER_SECOND_MAX * seconds


def a_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "certificate.pem", folder / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


async def test_tls_serves_1_2_and_later_and_ends_handshakes_that_do_not_come(tmp_path: Path) -> None:
    certificate, key = a_certificate(tmp_path)
    port = Port()
    port.port = await port.server.open("127.0.0.1", 0, tls_context(certificate, key))
    try:
        trusting = ssl.create_default_context(cafile=str(certificate))
        reader, writer = await asyncio.open_connection("localhost", port.port, ssl=trusting)
        writer.write(request(purchase().encode()))
        assert taken_apart(await reader.read()).status == 200
        writer.close()

        old = ssl.create_default_context(cafile=str(certificate))
        old.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            old.maximum_version = ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("localhost", port.port, ssl=old)

        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await port.send(b"") == b""
        assert loop.time() - started > 2.5
        with pytest.raises((ConnectionError, AssertionError)):
            taken_apart(await port.send(request(purchase().encode())))
    finally:
        await port.server.close(answer_seconds=1)


async def test_unusable_tls_files_and_addresses_are_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="KEYWAY_TLS_CERT"):
        tls_context(tmp_path / "absent.pem", tmp_path / "absent.key")
    first, second = Port(), Port()
    taken = await first.server.open("127.0.0.1", 0, None)
    try:
        with pytest.raises(ConfigurationError, match="KEYWAY_HTTP_PORT"):
            await second.server.open("127.0.0.1", taken, None)
    finally:
        await first.server.close(answer_seconds=1)
        await second.server.close(answer_seconds=1)
    with pytest.raises(ConfigurationError, match="loopback"):
        load_settings({"KEYWAY_HTTP_HOST": "0.0.0.0"})

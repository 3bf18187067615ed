"""TLS of the sandbox: a test authority of its own, and the wrong certificates that faults hand out.

The authority and the certificates are made at the first start and kept in the state folder, so that a client's CA file
(`STATE_DIR/tls/ca.pem`) stays right. The faults are chosen per connection, before the handshake has told us anything
but a name (docs/protocols/isplicense.md 13.4: `tls_expired`, `tls_wrong_host`, `tls_unknown_ca`).
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_FILE = "ca.pem"
GOOD = "good"
WRONG_NAME = "elsewhere.example"
_PRIVATE = 0o600
_LIFE = timedelta(days=3650)
_DAY = timedelta(days=1)

FaultOfHandshake = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority: what signs, and what is shown to those who trust it."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def server_context(folder: Path, host: str, now: datetime, fault_of_handshake: FaultOfHandshake) -> ssl.SSLContext:
    """Return the listener's context; `fault_of_handshake` is asked at each connection which certificate to show.

    Makes the certificates in `folder` when they are not there yet; `now` is the machine's time.
    """
    if not (folder / AUTHORITY_FILE).exists():
        _make_certificates(folder, host, now)
    contexts = {path.stem.removeprefix("server-"): _context(path) for path in sorted(folder.glob("server-*.pem"))}
    good = contexts[GOOD]

    def choose(connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _asked: object) -> None:
        connection.context = contexts[fault_of_handshake() or GOOD]

    good.set_servername_callback(choose)
    return good


def _context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(path)
    return context


def _make_certificates(folder: Path, host: str, now: datetime) -> None:
    """Write the servers' files and, last, the authority's: its presence says that the others are complete."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = _make_authority("Keyway sandbox test authority", now)
    stranger = _make_authority("Nobody's authority", now)
    names = [_name_of(name) for name in dict.fromkeys(("localhost", "127.0.0.1", "::1", host))]
    wrong_name = [x509.DNSName(WRONG_NAME)]
    _write_server(folder, GOOD, authority, names, (now - _DAY, now + _LIFE))
    _write_server(folder, "tls_expired", authority, names, (now - 2 * _DAY, now - _DAY))
    _write_server(folder, "tls_wrong_host", authority, wrong_name, (now - _DAY, now + _LIFE))
    _write_server(folder, "tls_unknown_ca", stranger, names, (now - _DAY, now + _LIFE))
    (folder / AUTHORITY_FILE).write_bytes(authority.certificate.public_bytes(serialization.Encoding.PEM))


def _name_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _make_authority(title: str, now: datetime) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Authority(key, certificate)


def _write_server(
    folder: Path,
    name: str,
    authority: Authority,
    names: list[x509.GeneralName] | list[x509.DNSName],
    validity: tuple[datetime, datetime],
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ISPlicense sandbox")])
    issuer_key = authority.key.public_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = folder / f"server-{name}.pem"
    path.touch(mode=_PRIVATE)
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))

"""Identifiers and the one partitioner: how a license is named, and where its records go.

A license id is `<account>:<number>` (for example `ka:00481516`). It is the Kafka record key and the unit of order:
everything about one license lands in one partition, whoever writes it.
"""

import re
from typing import NewType
from uuid import UUID
from zlib import crc32

LicenseId = NewType("LicenseId", str)
CommandId = NewType("CommandId", UUID)
Fingerprint = NewType("Fingerprint", bytes)
"""SHA-256 of a normalized operation (docs/protocols/isv-endpoint.md 8.2): 32 bytes."""

ACCOUNT_NAME = re.compile(r"[a-z0-9-]{1,32}")
LICENSE_NUMBER = re.compile(r"[0-9]{1,10}")


def license_id(account: str, number: str) -> LicenseId:
    """Return the id of the license `number` of `account`. Numbers are text: `00123456` is not `123456`."""
    return LicenseId(f"{account}:{number}")


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of record key `key`: CRC-32 modulo the partition count, for every writer alike."""
    return crc32(key) % partitions

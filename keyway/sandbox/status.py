"""Which status a service shows, and when: derived from its moments, so that time alone carries it 1 -> 5 -> 2.

Rules: docs/protocols/isplicense.md 7.2, 13.3 (activation profiles).
"""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import IntEnum

from keyway.sandbox.rows import Activation, Profile, Service


class Status(IntEnum):
    """The panel's status codes."""

    ORDERED = 1
    ACTIVE = 2
    SUSPENDED = 3
    DELETED = 4
    PROCESSING = 5


def status_of(service: Service, now: datetime) -> Status:
    """Return the status at `now`."""
    if service.deleted_at is not None:
        return Status.DELETED
    if not service.paid or (service.processing_at is not None and now < service.processing_at):
        return Status.ORDERED
    if service.active_at is None or now < service.active_at:
        return Status.PROCESSING
    if service.activation_fails:
        return Status.DELETED
    return Status.SUSPENDED if service.suspended else Status.ACTIVE


def key_of(service: Service, now: datetime) -> str:
    """Return the license key, empty until it is there."""
    if status_of(service, now) not in {Status.ACTIVE, Status.SUSPENDED}:
        return ""
    return service.key if service.key_at is None or now >= service.key_at else ""


def is_listed(service: Service, profile: Profile, now: datetime) -> bool:
    """Whether lists show the service at `now`."""
    if service.shown_expires_on is None and (
        service.unlisted or (service.listed_at is not None and now < service.listed_at)
    ):
        return False
    gone_at = service.deleted_at or (service.active_at if status_of(service, now) is Status.DELETED else None)
    return gone_at is None or now < gone_at + timedelta(seconds=profile.deleted_linger_seconds)


def with_activation(service: Service, activation: Activation, now: datetime) -> Service:
    """Return a new, paid service on the course that the profile sets."""
    processing_at = now + timedelta(milliseconds=activation.ms_ordered)
    active_at = processing_at + timedelta(milliseconds=activation.ms_processing)
    key_at = active_at + timedelta(milliseconds=activation.ms_key)
    match activation.mode:
        case "instant":
            return replace(service, processing_at=now, active_at=now, key_at=now)
        case "delayed":
            return replace(service, processing_at=processing_at, active_at=active_at, key_at=key_at)
        case "stuck":
            return replace(service, processing_at=processing_at)
        case "unpaid":
            return replace(service, paid=False)
        case "fails":
            return replace(service, processing_at=processing_at, active_at=active_at, activation_fails=True)

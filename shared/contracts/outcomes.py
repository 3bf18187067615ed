"""Why a command was rejected: codes for machines. HTTP statuses and texts are `gateway.problems`' business."""

from enum import StrEnum


class RejectionCode(StrEnum):
    """The business's ways of saying no; names are part of replies and audit rows and never change meaning."""

    LICENSE_UNKNOWN = "license_unknown"
    LICENSE_TERMINATED = "license_terminated"
    LICENSE_LAPSED = "license_lapsed"
    LICENSE_SUSPENDED = "license_suspended"
    LICENSE_EXISTS = "license_exists"
    PRODUCT_UNKNOWN = "product_unknown"
    PRODUCT_MISMATCH = "product_mismatch"
    MODEL_MISMATCH = "model_mismatch"
    TEST_FLAG_MISMATCH = "test_flag_mismatch"
    EXPIRY_PAST = "expiry_past"
    EXPIRY_EARLIER = "expiry_earlier"
    UPGRADE_NOT_OFFERED = "upgrade_not_offered"
    ACTIVATION_DATA_INVALID = "activation_data_invalid"
    PARENT_UNSUITABLE = "parent_unsuitable"
    PROVIDER_VALUE_REFUSED = "provider_value_refused"
    PROVIDER_REFUSED = "provider_refused"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    UPGRADE_LOST_UPSTREAM = "upgrade_lost_upstream"
    LICENSE_BUSY = "license_busy"
    USAGE_NOT_REPORTED = "usage_not_reported"
    USAGE_ENDED = "usage_ended"
    USAGE_UNAVAILABLE = "usage_unavailable"


class TerminationOutcome(StrEnum):
    """What a TERMINATE found."""

    TERMINATED = "terminated"
    ALREADY_TERMINATED = "already_terminated"
    TOMBSTONE_RECORDED = "tombstone_recorded"

"""Why a command was rejected: codes for machines. HTTP statuses and texts are `gateway.problems`' business."""

from collections.abc import Mapping
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
    PROVIDER_MISSING = "provider_missing"
    UPGRADE_LOST_UPSTREAM = "upgrade_lost_upstream"
    LICENSE_BUSY = "license_busy"
    USAGE_NOT_REPORTED = "usage_not_reported"
    USAGE_ENDED = "usage_ended"
    USAGE_UNAVAILABLE = "usage_unavailable"
    KEY_TERMINATED = "key_terminated"
    KEY_VALUE_INVALID = "key_value_invalid"
    KEY_REPEAT_DIFFERS = "key_repeat_differs"
    KEY_CONFLICT = "key_conflict"
    KEY_GUARD_DIFFERS = "key_guard_differs"
    KEY_OWNER_UNSUITABLE = "key_owner_unsuitable"
    KEY_PARENT_UNSUITABLE = "key_parent_unsuitable"
    KEY_ITEM_UNKNOWN = "key_item_unknown"
    KEY_ITEMS_REFUSED = "key_items_refused"
    KEY_ADDRESS_TAKEN = "key_address_taken"
    KEY_CONFIGURATION_UNSUITABLE = "key_configuration_unsuitable"
    KEY_ACTIVATION_REFUSED = "key_activation_refused"
    KEY_SUSPENDED = "key_suspended"
    KEY_STATE_REFUSED = "key_state_refused"
    KEY_SUS_STATE = "key_sus_state"
    KEY_UNKNOWN = "key_unknown"


PARTNER_ERROR_TYPES: Mapping[RejectionCode, int] = {
    RejectionCode.KEY_TERMINATED: 24204,
    RejectionCode.KEY_VALUE_INVALID: 30002,
    RejectionCode.KEY_REPEAT_DIFFERS: 30004,
    RejectionCode.KEY_CONFLICT: 30010,
    RejectionCode.KEY_GUARD_DIFFERS: 30011,
    RejectionCode.KEY_OWNER_UNSUITABLE: 30020,
    RejectionCode.KEY_PARENT_UNSUITABLE: 30021,
    RejectionCode.KEY_ITEM_UNKNOWN: 30022,
    RejectionCode.KEY_ITEMS_REFUSED: 30023,
    RejectionCode.KEY_ADDRESS_TAKEN: 30024,
    RejectionCode.KEY_CONFIGURATION_UNSUITABLE: 30025,
    RejectionCode.KEY_ACTIVATION_REFUSED: 30026,
    RejectionCode.KEY_SUSPENDED: 30027,
    RejectionCode.KEY_STATE_REFUSED: 30028,
    RejectionCode.KEY_SUS_STATE: 30029,
    RejectionCode.KEY_UNKNOWN: 30042,
    RejectionCode.PROVIDER_REFUSED: 30051,
    RejectionCode.PROVIDER_VALUE_REFUSED: 30051,
    RejectionCode.PROVIDER_UNAVAILABLE: 30052,
    RejectionCode.PROVIDER_MISSING: 30052,
    RejectionCode.LICENSE_BUSY: 30052,
}
"""Error types of the Partner API (docs/protocols/partner-api.md 7.2).

Details that come with them, by name; each is the value after the ` = ` of the error's `details`:

| code | details |
|---|---|
| terminated, suspended, guard, state, SUS state | `number`: the full key number, `PLSK.20240317.0000` |
| value | `field`: the member by its `KeyMember`, which the gateway writes as requests do, or a parameter |
| conflict | `pairs`: `MOVE + UPGRADE; MOVE + IPBIND` (here `details` has no ` = `) |
| owner | `owner` |
| parent | `parent`: what the request named, or the number of the present parent |
| item, items | `item`: the constant at fault, empty where it is the set; `reason`: a clause for people |
| address, configuration | `address`; `configuration` |
| activation | `uid`; `reason` |
| unknown | `key`: key id |
| repeat | `parameter`: `Idempotency-Key` |
"""


class TerminationOutcome(StrEnum):
    """What a TERMINATE found."""

    TERMINATED = "terminated"
    ALREADY_TERMINATED = "already_terminated"
    TOMBSTONE_RECORDED = "tombstone_recorded"

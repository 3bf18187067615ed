"""How a verb says no: one line on standard error and exit status 1 (see `keyway.__main__.run_verb`)."""

from shared.errors import KeywayError


class RefusedError(KeywayError):
    """What was asked cannot be done; the text says why and what to do instead."""

    code = "refused"

"""A stand-in for the ISPlicense panel in its own process: faithful, durable, deterministic and mischievous on command.

It speaks docs/protocols/isplicense.md 1-8, keeps every effect on disk before answering, writes every charge into a
ledger, and misbehaves as 13.4 says when told over `/__sandbox/faults`. It shares no code with the client that it tests.

How a request travels: `routes` (HTTP, the order of mischief) -> `forms` (parameters) -> `panel` (authenticate, look the
function up) -> `functions` (what the panel does; pure: call and state in, document and rows out) -> `store` (rows to
disk, then to memory) -> `document` (XML or JSON) -> `faults` (spoil the answer) -> `delivery` (put it on the wire).
"""

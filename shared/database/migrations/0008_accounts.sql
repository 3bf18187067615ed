-- several accounts at the provider: which are in use, and how much may be unknown in each
-- depends: 0007_owners

-- migrate: apply

ALTER TABLE provider_account
    ADD COLUMN in_use boolean NOT NULL DEFAULT false,
    ADD COLUMN unresolved_max integer NOT NULL DEFAULT 8,
    ADD CONSTRAINT provider_account_name_is_plain CHECK (name ~ '^[a-z0-9-]{1,32}$'),
    ADD CONSTRAINT unresolved_is_bounded CHECK (unresolved_max >= 1);
COMMENT ON COLUMN provider_account.in_use IS 'Whether the provider role has a login for it. Accounts stay when they are given up: orders name them.';
COMMENT ON COLUMN provider_account.unresolved_max IS 'So many orders may have an unknown outcome; beyond, new ones are answered 503. Written by the provider role from its settings.';

ALTER TABLE provider_order ADD COLUMN put_off integer NOT NULL DEFAULT 0,
    ADD CONSTRAINT put_off_counts_from_zero CHECK (put_off >= 0);
COMMENT ON COLUMN provider_order.put_off IS 'How often the provider refused a release for a passing reason.';

-- migrate: rollback

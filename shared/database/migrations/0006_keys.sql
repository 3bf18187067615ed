-- what the Partner API adds to a license, and the requests that its callers named
-- depends: 0005_usage

-- migrate: apply

ALTER TABLE license ADD COLUMN key jsonb;
COMMENT ON COLUMN license.key IS 'What the Partner API knows of the license; null while it has never changed it.';
CREATE UNIQUE INDEX key_address_is_bound_once ON license ((key ->> 'family'), (key ->> 'address'))
    WHERE status <> 'terminated' AND key ->> 'address' IS NOT NULL;
CREATE UNIQUE INDEX key_uid_is_used_once ON license ((key ->> 'family'), (key ->> 'uid'))
    WHERE status <> 'terminated' AND key ->> 'uid' IS NOT NULL;
CREATE INDEX license_by_key_address ON license ((key ->> 'address')) WHERE key ->> 'address' IS NOT NULL;
CREATE INDEX license_by_key_uid ON license ((key ->> 'uid')) WHERE key ->> 'uid' IS NOT NULL;
CREATE INDEX license_by_key_parent ON license ((key -> 'parent' ->> 'license_id') COLLATE "C")
    WHERE key -> 'parent' ->> 'license_id' IS NOT NULL;
CREATE INDEX license_by_key_owner ON license ((key ->> 'owner') COLLATE "C", key_id) WHERE key ->> 'owner' IS NOT NULL;
CREATE INDEX license_by_account ON license (account_id, key_id);
ALTER TYPE command_effect ADD ATTRIBUTE key_id bigint;
ALTER TYPE command_effect ADD ATTRIBUTE key text;
COMMENT ON COLUMN command_effect.key_id IS 'Key id of a new Partner key, drawn before; null: it is drawn now.';

CREATE TABLE named_request (
    account_id text COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    body_sha256 bytea NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    command_id uuid NOT NULL,
    status smallint NOT NULL,
    meta bytea NOT NULL,
    body bytea NOT NULL,
    handled_at timestamptz NOT NULL,
    CONSTRAINT named_request_pkey PRIMARY KEY (account_id, name),
    CONSTRAINT request_hash_is_sha256 CHECK (octet_length(body_sha256) = 32)
);
CREATE INDEX named_request_age ON named_request (handled_at);
COMMENT ON TABLE named_request IS 'Requests that their callers named (Idempotency-Key) and the reply to each, kept for 30 days.';
COMMENT ON COLUMN named_request.body_sha256 IS 'Of method, path and body: the same name for anything else is refused.';

-- migrate: rollback

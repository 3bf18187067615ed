-- what operators and processes keep: accounts, catalogs, signing keys, reply partitions
-- depends: 0002_records

-- migrate: apply

CREATE FUNCTION tell_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_TABLE_NAME || '_changed', '');
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION tell_change() IS 'Trigger that tells listeners on <table>_changed to look again.';

CREATE TABLE account (
    name text COLLATE "C" NOT NULL CONSTRAINT account_pkey PRIMARY KEY,
    role text NOT NULL,
    secret_hash text NOT NULL,
    credential_version integer NOT NULL DEFAULT 1,
    created_at timestamptz NOT NULL DEFAULT now(),
    disabled_at timestamptz,
    CONSTRAINT account_name_is_plain CHECK (name ~ '^[a-z0-9-]{1,32}$'),
    CONSTRAINT role_is_known CHECK (role IN ('ka', 'partner', 'operator')),
    CONSTRAINT secret_is_hashed CHECK (secret_hash LIKE '$argon2id$%'),
    CONSTRAINT credential_version_counts_from_one CHECK (credential_version >= 1)
);
COMMENT ON TABLE account IS 'Callers. Never deleted: license numbers are bound to the name.';
COMMENT ON COLUMN account.secret_hash IS 'argon2id; the secret itself is nowhere.';
COMMENT ON COLUMN account.credential_version IS '+1 with every rotation.';
CREATE TRIGGER account_is_kept BEFORE DELETE OR TRUNCATE ON account FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER account_tells_change AFTER INSERT OR UPDATE ON account FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE catalog_version (
    version integer NOT NULL CONSTRAINT catalog_version_pkey PRIMARY KEY,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    document text NOT NULL,
    CONSTRAINT catalog_version_counts_from_one CHECK (version >= 1)
);
COMMENT ON TABLE catalog_version IS 'Every catalog that was ever loaded; the newest is in force.';
COMMENT ON COLUMN catalog_version.document IS 'The checked document as text.';
CREATE TRIGGER catalog_version_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON catalog_version
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER catalog_version_tells_change AFTER INSERT ON catalog_version
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE signing_key (
    kid text COLLATE "C" NOT NULL CONSTRAINT signing_key_pkey PRIMARY KEY,
    jwk jsonb NOT NULL,
    published_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT jwk_has_its_kid CHECK (jwk ->> 'kid' = kid),
    CONSTRAINT jwk_is_public CHECK (NOT jwk ?| ARRAY['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'])
);
COMMENT ON TABLE signing_key IS 'Public keys of license bodies, for ever: an old body must stay verifiable. Private keys are in no database.';
CREATE TRIGGER signing_key_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON signing_key
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER signing_key_tells_change AFTER INSERT ON signing_key FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE reply_slot (
    slot smallint NOT NULL CONSTRAINT reply_slot_pkey PRIMARY KEY,
    owner uuid,
    leased_until timestamptz,
    CONSTRAINT slot_is_a_reply_partition CHECK (slot BETWEEN 0 AND 63),
    CONSTRAINT owner_has_a_lease CHECK ((owner IS NULL) = (leased_until IS NULL))
);
COMMENT ON TABLE reply_slot IS 'Which gateway process listens on which reply partition. By the database''s clock; two owners are harmless, because replies carry their correlation id.';
INSERT INTO reply_slot (slot) SELECT n FROM generate_series(0, 63) AS n;

-- migrate: rollback

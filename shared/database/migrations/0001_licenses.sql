-- licenses, their revisions and operations
-- depends:

-- migrate: apply

CREATE SEQUENCE license_key_id AS bigint START WITH 10000001;

CREATE TABLE license (
    license_id text COLLATE "C" NOT NULL CONSTRAINT license_pkey PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL,
    number text COLLATE "C" NOT NULL,
    key_id bigint NOT NULL DEFAULT nextval('license_key_id') CONSTRAINT key_id_names_one_license UNIQUE,
    activation_code text COLLATE "C" CONSTRAINT activation_code_names_one_license UNIQUE,
    product text NOT NULL,
    nfr boolean NOT NULL GENERATED ALWAYS AS (starts_with(product, 'NFR-')) STORED,
    model text NOT NULL,
    test boolean NOT NULL,
    status text NOT NULL,
    suspended boolean NOT NULL,
    subscription_on date,
    start_on date,
    purchase_on date,
    expires_on date,
    terminated_at timestamptz,
    activation_data text,
    reg_name text,
    revision integer NOT NULL,
    key_version integer NOT NULL,
    sequence bigint NOT NULL,
    published_sequence bigint NOT NULL DEFAULT 0,
    version bigint NOT NULL DEFAULT 1,
    audit_sha256 bytea NOT NULL,
    CONSTRAINT license_id_is_account_and_number CHECK (license_id = account_id || ':' || number),
    CONSTRAINT model_is_known CHECK (model IN ('standard', 'reporting')),
    CONSTRAINT status_is_known CHECK (status IN ('active', 'lapsed', 'terminated')),
    CONSTRAINT terminated_has_terminated_at CHECK ((status = 'terminated') = (terminated_at IS NOT NULL)),
    CONSTRAINT only_a_tombstone_was_never_issued CHECK (revision > 0 OR (revision = 0 AND status = 'terminated')),
    CONSTRAINT issued_has_expiry CHECK ((revision > 0) = (expires_on IS NOT NULL)),
    CONSTRAINT issued_has_activation_code CHECK (revision = 0 OR activation_code IS NOT NULL),
    CONSTRAINT key_version_counts_from_zero CHECK (key_version >= 0),
    CONSTRAINT version_counts_from_one CHECK (version >= 1),
    CONSTRAINT sequence_counts_from_one CHECK (sequence >= 1),
    CONSTRAINT published_events_were_written CHECK (published_sequence BETWEEN 0 AND sequence),
    CONSTRAINT audit_head_is_sha256 CHECK (octet_length(audit_sha256) = 32)
) WITH (fillfactor = 80);

ALTER SEQUENCE license_key_id OWNED BY license.key_id;

COMMENT ON TABLE license IS 'One row per license number of an account, kept for ever: a terminated one is a tombstone. license_id holds account and number, so its primary key is also the promise of one license per (account, number).';
COMMENT ON COLUMN license.account_id IS 'Name of the account that owns the number; another account''s number is unknown to it.';
COMMENT ON COLUMN license.number IS 'Number as text: 00123456 is not 123456.';
COMMENT ON COLUMN license.key_id IS 'Numeric id in the Partner API, drawn here, immutable. Gaps mean nothing.';
COMMENT ON COLUMN license.activation_code IS 'Immutable; only a tombstone may lack one.';
COMMENT ON COLUMN license.nfr IS 'Not for resale; follows from the product alone and so cannot contradict it.';
COMMENT ON COLUMN license.status IS 'Stored status; shown is terminated > suspended > lapsed > active.';
COMMENT ON COLUMN license.expires_on IS 'Last day, UTC; null for a tombstone of a number never issued.';
COMMENT ON COLUMN license.revision IS 'Issued bodies, from 1; 0 for a tombstone of a number never issued.';
COMMENT ON COLUMN license.key_version IS 'Last part of a Partner key number, from 0, raised by upgrades. Not the revision.';
COMMENT ON COLUMN license.sequence IS 'Number of the latest public event.';
COMMENT ON COLUMN license.published_sequence IS 'Every event up to this one was published. Kept by the relay alone.';
COMMENT ON COLUMN license.version IS 'Compare-and-set counter: +1 with every batch that writes this row.';
COMMENT ON COLUMN license.audit_sha256 IS 'Head of this license''s audit chain.';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% of % is refused: its rows are history', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;
COMMENT ON FUNCTION refuse_change() IS 'Trigger of append-only tables: nobody, owner and superuser included, changes history by accident.';

CREATE FUNCTION refuse_license_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'license % cannot change so: terminated is final, the last day never falls, ids and codes stay', OLD.license_id
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION refuse_license_change() IS 'Trigger that refuses what no rule may decide; its condition is checked without a call.';

CREATE TRIGGER license_only_moves_forward BEFORE UPDATE ON license FOR EACH ROW
    WHEN (
        (OLD.status = 'terminated' AND (NEW.status <> 'terminated' OR NEW.revision <> OLD.revision))
        OR NEW.expires_on < OLD.expires_on
        OR (NEW.expires_on IS NULL AND OLD.expires_on IS NOT NULL)
        OR NEW.license_id <> OLD.license_id
        OR NEW.key_id <> OLD.key_id
        OR NEW.activation_code IS DISTINCT FROM OLD.activation_code
        OR NEW.version < OLD.version
        OR NEW.sequence < OLD.sequence
    )
    EXECUTE FUNCTION refuse_license_change();
CREATE TRIGGER license_is_kept BEFORE DELETE OR TRUNCATE ON license FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE revision (
    license_id text COLLATE "C" NOT NULL,
    revision integer NOT NULL,
    cause text NOT NULL,
    product text NOT NULL,
    expires_on date NOT NULL,
    issued_at timestamptz NOT NULL,
    body_sha256 bytea NOT NULL,
    body bytea NOT NULL,
    CONSTRAINT revision_pkey PRIMARY KEY (license_id, revision),
    CONSTRAINT revision_counts_from_one CHECK (revision >= 1),
    CONSTRAINT cause_is_known CHECK (cause IN ('issued', 'renewed', 'upgraded')),
    CONSTRAINT first_revision_is_issued CHECK ((revision = 1) = (cause = 'issued')),
    CONSTRAINT body_hash_is_sha256 CHECK (octet_length(body_sha256) = 32),
    CONSTRAINT body_is_not_empty CHECK (octet_length(body) > 0)
);
COMMENT ON TABLE revision IS 'Every issued license body, byte for byte, once; replies refer to it. No foreign key: the one statement that writes it writes the license too, and a key would cost a look-up per row.';
COMMENT ON COLUMN revision.issued_at IS 'System clock.';
CREATE TRIGGER revision_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON revision
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE operation (
    license_id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    revision integer NOT NULL,
    CONSTRAINT operation_pkey PRIMARY KEY (license_id, fingerprint),
    CONSTRAINT fingerprint_is_sha256 CHECK (octet_length(fingerprint) = 32)
);
COMMENT ON TABLE operation IS 'One permanent row per successful PURCHASE, RENEW or UPGRADE: how a repeat is known when the protocol has no request id. Deleted only when a lost upgrade is undone.';
COMMENT ON COLUMN operation.revision IS 'Revision in force right after the operation.';
CREATE TRIGGER operation_is_not_rewritten BEFORE UPDATE OR TRUNCATE ON operation
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- migrate: rollback

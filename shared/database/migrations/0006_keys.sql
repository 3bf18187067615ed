-- what the Partner API adds: owners, their configurations and accounts, the key part of a license, named requests
-- depends: 0004_provider

-- migrate: apply

ALTER TABLE license ADD COLUMN key jsonb;
COMMENT ON COLUMN license.key IS 'What the Partner API knows of the license; null while it has never changed it.';
CREATE UNIQUE INDEX key_address_is_bound_once ON license ((key ->> 'family'), (key ->> 'address'))
    WHERE status <> 'terminated' AND key ->> 'address' IS NOT NULL;
CREATE UNIQUE INDEX key_uid_is_used_once ON license ((key ->> 'family'), (key ->> 'uid'))
    WHERE status <> 'terminated' AND key ->> 'uid' IS NOT NULL;
CREATE INDEX license_by_key_address ON license ((key ->> 'address')) WHERE key ->> 'address' IS NOT NULL;
CREATE INDEX license_by_key_uid ON license ((key ->> 'uid')) WHERE key ->> 'uid' IS NOT NULL;
CREATE INDEX license_by_key_parent ON license ((key -> 'parent' ->> 'license_id')) WHERE key -> 'parent' ->> 'license_id' IS NOT NULL;
CREATE INDEX license_by_key_owner ON license ((key ->> 'owner'), key_id) WHERE key IS NOT NULL;
CREATE INDEX license_by_account ON license (account_id, key_id);
ALTER TYPE command_effect ADD ATTRIBUTE key_id bigint;
ALTER TYPE command_effect ADD ATTRIBUTE key text;
COMMENT ON COLUMN command_effect.key_id IS 'Key id of a new Partner key, drawn before; null: it is drawn now.';

CREATE TABLE owner (
    owner_id text COLLATE "C" NOT NULL CONSTRAINT owner_pkey PRIMARY KEY,
    kind text NOT NULL,
    reseller_id text COLLATE "C" CONSTRAINT reseller_is_known REFERENCES owner,
    name text NOT NULL DEFAULT '',
    suspended boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT owner_kind_is_known CHECK (kind IN ('client', 'reseller')),
    CONSTRAINT only_clients_have_a_reseller CHECK (kind = 'client' OR reseller_id IS NULL),
    CONSTRAINT owner_id_is_plain CHECK (owner_id ~ '^[0-9A-Za-z_-]{1,64}$')
);
COMMENT ON TABLE owner IS 'Customers, who own keys, and resellers, who own none. Never deleted: keys name them.';
CREATE TRIGGER owner_is_kept BEFORE DELETE OR TRUNCATE ON owner FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER owner_tells_change AFTER INSERT OR UPDATE ON owner FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE product_configuration (
    configuration_id bigint NOT NULL CONSTRAINT product_configuration_pkey PRIMARY KEY,
    owner_id text COLLATE "C" NOT NULL CONSTRAINT configuration_owner_is_known REFERENCES owner,
    name text NOT NULL DEFAULT '',
    is_default boolean NOT NULL DEFAULT false,
    CONSTRAINT configuration_id_counts_from_one CHECK (configuration_id >= 1)
);
CREATE UNIQUE INDEX owner_has_one_default_configuration ON product_configuration (owner_id) WHERE is_default;
CREATE INDEX product_configuration_owner ON product_configuration (owner_id);
COMMENT ON TABLE product_configuration IS 'Product configurations of an owner; keys made for or moved to it get the default one.';

CREATE TABLE account_owner (
    account_id text COLLATE "C" NOT NULL CONSTRAINT account_owner_pkey PRIMARY KEY,
    owner_id text COLLATE "C" NOT NULL CONSTRAINT linked_owner_is_known REFERENCES owner,
    default_client_id text COLLATE "C" CONSTRAINT default_client_is_known REFERENCES owner,
    has_price_list boolean NOT NULL DEFAULT false
);
CREATE INDEX account_owner_owner ON account_owner (owner_id);
COMMENT ON TABLE account_owner IS 'To which owner an account belongs. A linked account of another protocol shows its licenses there.';
COMMENT ON COLUMN account_owner.default_client_id IS 'For the account of a reseller: who gets keys that are made without an owner.';
COMMENT ON COLUMN account_owner.has_price_list IS 'False: every constant of the catalog may be used.';
CREATE TRIGGER account_owner_tells_change AFTER INSERT OR UPDATE OR DELETE ON account_owner
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE price_list_item (
    account_id text COLLATE "C" NOT NULL CONSTRAINT price_list_account_is_linked REFERENCES account_owner,
    sku text COLLATE "C" NOT NULL,
    CONSTRAINT price_list_item_pkey PRIMARY KEY (account_id, sku)
);
COMMENT ON TABLE price_list_item IS 'Constants that an account with a price list may use.';

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

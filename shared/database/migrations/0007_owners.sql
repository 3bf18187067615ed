-- who keys belong to: resellers, clients, their configurations and price lists; which account speaks for whom
-- depends: 0007_intake

-- migrate: apply

CREATE TABLE price_list (
    name text COLLATE "C" NOT NULL CONSTRAINT price_list_pkey PRIMARY KEY,
    items text[] NOT NULL,
    CONSTRAINT price_list_name_is_plain CHECK (name ~ '^[a-z0-9-]{1,32}$')
);
COMMENT ON TABLE price_list IS 'Item constants that accounts with this list may order.';
CREATE TRIGGER price_list_tells_change AFTER INSERT OR UPDATE OR DELETE ON price_list
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE owner (
    owner_id text COLLATE "C" NOT NULL CONSTRAINT owner_pkey PRIMARY KEY,
    kind text NOT NULL,
    reseller_id text COLLATE "C" CONSTRAINT reseller_is_an_owner REFERENCES owner,
    name text NOT NULL DEFAULT '',
    suspended boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT owner_id_is_plain CHECK (owner_id ~ '^[A-Za-z0-9-]{1,64}$'),
    CONSTRAINT owner_kind_is_known CHECK (kind IN ('reseller', 'client')),
    CONSTRAINT only_clients_have_a_reseller CHECK (kind = 'client' OR reseller_id IS NULL)
);
COMMENT ON TABLE owner IS 'Resellers and clients. Keys belong to clients only. Never deleted: keys name them.';
CREATE TRIGGER owner_is_kept BEFORE DELETE OR TRUNCATE ON owner FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER owner_tells_change AFTER INSERT OR UPDATE ON owner FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE product_configuration (
    configuration_id bigint NOT NULL CONSTRAINT product_configuration_pkey PRIMARY KEY,
    owner_id text COLLATE "C" NOT NULL CONSTRAINT configuration_has_an_owner REFERENCES owner,
    name text NOT NULL DEFAULT '',
    is_default boolean NOT NULL DEFAULT false,
    CONSTRAINT configuration_id_is_positive CHECK (configuration_id BETWEEN 1 AND 999999999999999)
);
CREATE UNIQUE INDEX one_default_configuration ON product_configuration (owner_id) WHERE is_default;
CREATE INDEX product_configuration_owner ON product_configuration (owner_id);
COMMENT ON TABLE product_configuration IS 'What a key of an owner may be configured with; one of them is the owner''s default.';
CREATE TRIGGER configuration_is_kept BEFORE DELETE OR TRUNCATE ON product_configuration
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER product_configuration_tells_change AFTER INSERT OR UPDATE ON product_configuration
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

CREATE TABLE account_owner (
    account_id text COLLATE "C" NOT NULL CONSTRAINT account_owner_pkey PRIMARY KEY
        CONSTRAINT linked_account_exists REFERENCES account,
    owner_id text COLLATE "C" NOT NULL CONSTRAINT linked_owner_exists REFERENCES owner,
    default_client text COLLATE "C" CONSTRAINT default_client_exists REFERENCES owner,
    price_list text COLLATE "C" CONSTRAINT price_list_exists REFERENCES price_list
);
CREATE INDEX account_owner_owner ON account_owner (owner_id);
COMMENT ON TABLE account_owner IS 'For whom an account speaks. A partner account reaches its owner''s keys, that of a reseller those of the reseller''s clients; the licenses of a linked ISV account belong to its owner.';
COMMENT ON COLUMN account_owner.default_client IS 'Owner of keys that a reseller''s account creates without naming one; null: it must name one.';
COMMENT ON COLUMN account_owner.price_list IS 'What the account may order; null: everything in the catalog.';
CREATE TRIGGER account_owner_tells_change AFTER INSERT OR UPDATE OR DELETE ON account_owner
    FOR EACH STATEMENT EXECUTE FUNCTION tell_change();

-- migrate: rollback

-- who may only read: the role of the Partner API's reads; indexes for every filter of its search
-- depends: 0008_patrol

-- migrate: apply

CREATE FUNCTION let_read(reader text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    kept text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = reader) THEN
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', reader);
            IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
                EXECUTE format('GRANT %I TO CURRENT_USER', reader);
            END IF;
        EXCEPTION
            WHEN insufficient_privilege THEN
                RETURN false;
            WHEN duplicate_object OR unique_violation THEN
                NULL; -- made for another database of this server just now
        END;
    END IF;
    IF NOT has_schema_privilege(reader, 'public', 'USAGE') THEN
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', reader);
    END IF;
    FOREACH kept IN ARRAY ARRAY['license', 'revision', 'owner', 'product_configuration', 'account_owner'] LOOP
        IF NOT has_table_privilege(reader, kept, 'SELECT') THEN
            EXECUTE format('GRANT SELECT ON %I TO %I', kept, reader);
        END IF;
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION let_read(text) IS 'Makes the group role that reads keys and nothing else, where that is missing; false when the role does not exist and may not be made.';

CREATE FUNCTION owned_constants(key jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE COST 1000 AS $$
    SELECT coalesce(array_agg((key ->> 'owner') || ' ' || upper(item ->> 'item')), '{}')
    FROM jsonb_array_elements(key -> 'items') AS held (item)
$$;
COMMENT ON FUNCTION owned_constants(jsonb) IS 'The owner of a key document with each constant that it holds, in upper case: `10001 360-MON-1M`.';

DROP INDEX license_by_account;
CREATE INDEX license_of_account ON license (account_id, key_id) WHERE key IS NULL;
CREATE INDEX license_by_key_nickname ON license ((key ->> 'owner') COLLATE "C", (key ->> 'nickname'))
    WHERE key ->> 'nickname' <> '';
CREATE INDEX license_by_key_constant ON license USING gin (owned_constants(key)) WHERE key IS NOT NULL;
CREATE INDEX license_with_restriction ON license ((key ->> 'owner') COLLATE "C", key_id)
    WHERE key ->> 'restrict_address' = 'true';
CREATE INDEX license_bought_for_good ON license ((key ->> 'owner') COLLATE "C", key_id) WHERE key ->> 'purchased' = 'true';
CREATE INDEX owner_of_reseller ON owner (reseller_id) WHERE reseller_id IS NOT NULL;

-- migrate: rollback

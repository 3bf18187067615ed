-- how far the relay has counted published events into the licenses
-- depends: 0004_provider

-- migrate: apply

CREATE TABLE relay_progress (
    only_row boolean NOT NULL DEFAULT true CONSTRAINT relay_progress_pkey PRIMARY KEY,
    counted_up_to bigint NOT NULL DEFAULT 0,
    CONSTRAINT there_is_one_row CHECK (only_row)
);
COMMENT ON TABLE relay_progress IS 'Up to which outbox row published events stand in license.published_sequence. Written by the active relay alone.';
INSERT INTO relay_progress DEFAULT VALUES;

-- migrate: rollback

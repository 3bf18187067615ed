-- public requests ever seen, and what people did about dead letters
-- depends: 0006_keys

-- migrate: apply

CREATE TABLE intake_request (
    source text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    content_sha256 bytea NOT NULL,
    command_id uuid NOT NULL,
    first_seen_at timestamptz NOT NULL,
    handed_over_at timestamptz,
    CONSTRAINT intake_request_pkey PRIMARY KEY (source, request_id),
    CONSTRAINT content_hash_is_sha256 CHECK (octet_length(content_sha256) = 32)
);
COMMENT ON TABLE intake_request IS 'Every public request ever seen, once: how a repeat is known for as long as the data lives, whatever topics forget.';
COMMENT ON COLUMN intake_request.content_sha256 IS 'The same source and id with other content is nobody''s request.';
COMMENT ON COLUMN intake_request.command_id IS 'Made from source, id and the first arrival, so that handing over twice is one command.';
COMMENT ON COLUMN intake_request.handed_over_at IS 'When its command was acknowledged on the topic, or its answer written; never handed over again.';
CREATE TRIGGER intake_request_is_kept BEFORE DELETE OR TRUNCATE ON intake_request
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER intake_request_is_not_rewritten
    BEFORE UPDATE OF source, request_id, type, license_id, content_sha256, command_id, first_seen_at
    ON intake_request FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE dead_letter_action (
    topic text COLLATE "C" NOT NULL,
    partition integer NOT NULL,
    dead_offset bigint NOT NULL,
    letter_at timestamptz NOT NULL,
    action text NOT NULL,
    attempt integer NOT NULL,
    acted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT dead_letter_action_pkey PRIMARY KEY (topic, partition, dead_offset, letter_at),
    CONSTRAINT action_is_known CHECK (action IN ('retried', 'discarded'))
);
COMMENT ON TABLE dead_letter_action IS 'Dead letters that people have dealt with: the others are open. The letter itself stays on its topic until that forgets it.';
COMMENT ON COLUMN dead_letter_action.topic IS 'Dead-letter topic with the installation''s prefix.';
COMMENT ON COLUMN dead_letter_action.letter_at IS 'The record''s own time: a topic made anew counts offsets from 0 again.';
COMMENT ON COLUMN dead_letter_action.attempt IS 'Attempts that the letter told of.';
CREATE TRIGGER dead_letter_action_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON dead_letter_action
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- migrate: rollback

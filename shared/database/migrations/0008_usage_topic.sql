-- usage: which topic the stored offsets belong to, so that one made anew is never taken for the one that was read
-- depends: 0008_reader

-- migrate: apply

CREATE TABLE usage_topic (
    generation integer NOT NULL CONSTRAINT usage_topic_pkey PRIMARY KEY,
    topic_id uuid NOT NULL,
    noticed_at timestamptz NOT NULL,
    earlier_watermark bigint[] NOT NULL,
    accepted_at timestamptz,
    reason text NOT NULL DEFAULT '',
    CONSTRAINT generation_counts_from_one CHECK (generation >= 1),
    CONSTRAINT acceptance_has_its_reason CHECK (generation = 1 OR (accepted_at IS NULL) = (reason = ''))
);
COMMENT ON TABLE usage_topic IS 'The topics that have borne the name usage.reported, or one whose end fell back; the newest is read. Until people accept it, nothing is told that needs everything to be read.';
COMMENT ON COLUMN usage_topic.topic_id IS 'Given by Kafka.';
COMMENT ON COLUMN usage_topic.noticed_at IS 'System clock, as accepted_at.';
COMMENT ON COLUMN usage_topic.earlier_watermark IS 'How far the one before was read, per partition: what it held beyond is gone unless it is sent again.';
COMMENT ON COLUMN usage_topic.reason IS 'What people did about events that the one before may have held unread.';
CREATE TRIGGER usage_topic_is_kept BEFORE DELETE OR TRUNCATE ON usage_topic
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE usage_event ADD COLUMN generation integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN usage_event.generation IS 'To which usage_topic its partition and record_offset belong.';
ALTER TABLE usage_report ADD COLUMN generation integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN usage_report.generation IS 'To which usage_topic the watermark belongs; all events of earlier ones are in the figures.';

-- migrate: rollback

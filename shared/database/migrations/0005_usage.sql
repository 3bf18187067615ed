-- usage: raw events, counters, how far the topic is read, reports, settlement months
-- depends: 0005_relay

-- migrate: apply

CREATE TABLE usage_event (
    source text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    account_id text COLLATE "C" NOT NULL,
    product text NOT NULL,
    nfr boolean NOT NULL GENERATED ALWAYS AS (starts_with(product, 'NFR-')) STORED,
    test boolean NOT NULL,
    counter text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    value numeric NOT NULL,
    at timestamptz NOT NULL,
    month date NOT NULL,
    content_sha256 bytea NOT NULL,
    partition integer NOT NULL,
    record_offset bigint NOT NULL,
    received_at timestamptz NOT NULL,
    CONSTRAINT usage_event_pkey PRIMARY KEY (source, event_id),
    CONSTRAINT usage_kind_is_known CHECK (kind IN ('level', 'increment')),
    CONSTRAINT usage_value_is_a_count CHECK (value BETWEEN 0 AND 9007199254740991),
    CONSTRAINT usage_content_hash_is_sha256 CHECK (octet_length(content_sha256) = 32),
    CONSTRAINT usage_month_is_a_first_day CHECK (date_trunc('month', month::timestamp) = month::timestamp),
    CONSTRAINT usage_never_counts_into_an_earlier_month CHECK (month >= (date_trunc('month', at AT TIME ZONE 'UTC'))::date)
);
CREATE INDEX usage_event_of_license ON usage_event (license_id, counter, at);
CREATE INDEX usage_event_of_month ON usage_event (month, account_id, product) WHERE NOT test AND NOT nfr;
COMMENT ON TABLE usage_event IS 'Every usage event that counts, once, for ever: the evidence behind each reported and each settled figure. Its primary key is the promise that a duplicate changes nothing.';
COMMENT ON COLUMN usage_event.product IS 'Product id held when the event was taken in.';
COMMENT ON COLUMN usage_event.test IS 'Test flag of the license, which never changes.';
COMMENT ON COLUMN usage_event.at IS 'When it happened, as its source says.';
COMMENT ON COLUMN usage_event.month IS 'Settlement month into which it counts (first day): that of `at`, or a later one when that was closed already.';
COMMENT ON COLUMN usage_event.content_sha256 IS 'The same source and id with another content is nobody''s event.';
COMMENT ON COLUMN usage_event.record_offset IS 'Where it stood on the topic when it was first taken in.';
COMMENT ON COLUMN usage_event.received_at IS 'System clock.';
CREATE TRIGGER usage_event_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_event
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE usage_total (
    license_id text COLLATE "C" NOT NULL,
    counter text COLLATE "C" NOT NULL,
    kind text NOT NULL,
    value numeric NOT NULL,
    at timestamptz NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    source text COLLATE "C" NOT NULL,
    events bigint NOT NULL,
    CONSTRAINT usage_total_pkey PRIMARY KEY (license_id, counter, kind),
    CONSTRAINT usage_total_kind_is_known CHECK (kind IN ('level', 'increment')),
    CONSTRAINT usage_total_is_not_negative CHECK (value >= 0)
);
COMMENT ON TABLE usage_total IS 'The fold of usage_event per license and counter, moved in the transaction of its events.';
COMMENT ON COLUMN usage_total.value IS 'Level: that of the latest event, ties by id. Increment: the sum.';
COMMENT ON COLUMN usage_total.at IS 'Time of the latest event, with its id and source.';

CREATE TABLE usage_watermark (
    partition integer NOT NULL CONSTRAINT usage_watermark_pkey PRIMARY KEY,
    next_offset bigint NOT NULL,
    CONSTRAINT next_offset_counts_from_zero CHECK (next_offset >= 0)
);
COMMENT ON TABLE usage_watermark IS 'Offset of usage.reported to read next, per partition: everything before it is taken in or set aside. Moved in the transaction of those events.';

CREATE TABLE usage_report (
    command_id uuid NOT NULL CONSTRAINT usage_report_pkey PRIMARY KEY,
    license_id text COLLATE "C" NOT NULL,
    reported_at timestamptz NOT NULL,
    figures jsonb NOT NULL,
    kinds jsonb NOT NULL,
    watermark bigint[] NOT NULL
);
CREATE INDEX usage_report_of_license ON usage_report (license_id, reported_at);
COMMENT ON TABLE usage_report IS 'Every usage figure that was told to a caller, with how far usage.reported was read by then: usage_event up to there gives the same figure again.';
COMMENT ON COLUMN usage_report.reported_at IS 'Business clock.';
COMMENT ON COLUMN usage_report.watermark IS 'Next offset per partition, from partition 0.';
CREATE TRIGGER usage_report_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_report
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE usage_settlement (
    account_id text COLLATE "C" NOT NULL,
    product text COLLATE "C" NOT NULL,
    month date NOT NULL,
    state text NOT NULL,
    closed_at timestamptz NOT NULL,
    disputed_at timestamptz,
    settled_at timestamptz,
    reason text NOT NULL DEFAULT '',
    CONSTRAINT usage_settlement_pkey PRIMARY KEY (account_id, product, month),
    CONSTRAINT settlement_state_is_known CHECK (state IN ('closed', 'disputed', 'settled')),
    CONSTRAINT settlement_month_is_a_first_day CHECK (date_trunc('month', month::timestamp) = month::timestamp),
    CONSTRAINT settled_has_settled_at CHECK ((state = 'settled') = (settled_at IS NOT NULL)),
    CONSTRAINT disputed_has_disputed_at CHECK (state <> 'disputed' OR disputed_at IS NOT NULL),
    CONSTRAINT not_for_resale_is_never_settled CHECK (NOT starts_with(product, 'NFR-'))
);
COMMENT ON TABLE usage_settlement IS 'Months of an account and product that are no longer open. A month without a row, after the last closed one, is open.';
COMMENT ON COLUMN usage_settlement.closed_at IS 'Business clock, as the other times here.';
COMMENT ON COLUMN usage_settlement.reason IS 'Why it is or was disputed.';

CREATE FUNCTION refuse_settlement_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'settlement % % % never goes from % to %', OLD.account_id, OLD.product, OLD.month, OLD.state, NEW.state
        USING ERRCODE = 'check_violation', CONSTRAINT = TG_NAME, TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION refuse_settlement_change() IS 'Trigger that refuses what the rules of settlement never decide; its condition is checked without a call.';
CREATE TRIGGER settlement_only_moves_forward BEFORE UPDATE ON usage_settlement FOR EACH ROW
    WHEN (
        OLD.state = 'settled'
        OR (OLD.state = 'disputed' AND NEW.state <> 'settled')
        OR (OLD.state = 'closed' AND NEW.state NOT IN ('disputed', 'settled'))
        OR NEW.account_id <> OLD.account_id OR NEW.product <> OLD.product OR NEW.month <> OLD.month
        OR NEW.closed_at <> OLD.closed_at
    )
    EXECUTE FUNCTION refuse_settlement_change();
CREATE TRIGGER settlement_is_kept BEFORE DELETE OR TRUNCATE ON usage_settlement
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

CREATE TABLE usage_settlement_line (
    account_id text COLLATE "C" NOT NULL,
    product text COLLATE "C" NOT NULL,
    month date NOT NULL,
    license_id text COLLATE "C" NOT NULL,
    counter text COLLATE "C" NOT NULL,
    for_month date NOT NULL,
    kind text NOT NULL,
    value numeric NOT NULL,
    events bigint NOT NULL,
    test boolean NOT NULL DEFAULT false,
    CONSTRAINT usage_settlement_line_pkey PRIMARY KEY (account_id, product, month, license_id, counter, for_month),
    CONSTRAINT line_belongs_to_a_closed_month FOREIGN KEY (account_id, product, month) REFERENCES usage_settlement,
    CONSTRAINT line_kind_is_known CHECK (kind IN ('level', 'increment')),
    CONSTRAINT line_is_not_negative CHECK (value >= 0),
    CONSTRAINT adjustment_looks_back CHECK (for_month <= month),
    CONSTRAINT line_not_for_resale_is_never_settled CHECK (NOT starts_with(product, 'NFR-')),
    CONSTRAINT test_is_never_settled CHECK (NOT test)
);
CREATE INDEX usage_settlement_line_for ON usage_settlement_line (account_id, product, for_month);
COMMENT ON TABLE usage_settlement_line IS 'The figures of a closed month, one per license and counter; rows for an earlier month are adjustments by events that came after it was closed.';
COMMENT ON COLUMN usage_settlement_line.value IS 'Exact. Level: the highest in force at any time of the month. Increment: the sum. Adjustment: what is added to the earlier month.';
COMMENT ON COLUMN usage_settlement_line.test IS 'Always false: written from the license, so that a test license can never be settled.';
CREATE TRIGGER usage_settlement_line_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON usage_settlement_line
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- migrate: rollback

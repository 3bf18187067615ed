-- looks upstream find the newest services per way of ordering; sweeps read numbers of nodes in turns
-- depends: 0008_usage_topic

-- migrate: apply

CREATE INDEX provider_order_made ON provider_order (provider_account, (operation ->> 'is'), decided_at DESC)
    WHERE kind = 'order' AND state = 'confirmed';

ALTER TABLE provider_sweep ADD COLUMN nodes_through bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN provider_sweep.nodes_through IS 'Numbers of nodes were read up to this service; the next sweep of the scheduler goes on after it.';

-- migrate: rollback

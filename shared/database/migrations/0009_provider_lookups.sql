-- what looks upstream ask of the orders: the newest services per way of ordering, whatever was ever made
-- depends: 0008_usage_topic

-- migrate: apply

CREATE INDEX provider_order_made ON provider_order (provider_account, (operation ->> 'is'), decided_at DESC)
    WHERE kind = 'order' AND state = 'confirmed';

-- migrate: rollback

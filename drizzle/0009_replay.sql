-- Replaying deliveries.
SELECT 1;

-- The delivery log as the main app reads it.
SELECT 1;

-- Replays need no SQL of their own: nothing to do.
SELECT 1;

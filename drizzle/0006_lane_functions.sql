-- What an origin is, and events that wait for their lane.
SELECT 1;

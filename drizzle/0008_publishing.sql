-- Publishing pages.
SELECT 1;

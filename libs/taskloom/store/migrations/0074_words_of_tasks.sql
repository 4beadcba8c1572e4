-- Search in query and error: their words, so that one that few of a million tasks have is found at once. A word is a run
-- of letters and digits; ConnectTimeoutError is three. Only the first 65,536 characters count (a tsvector is at most
-- 1 MB). `libs/taskloom/views/task_executions/words.py` splits what is looked for in the same way.
CREATE FUNCTION task_words(content text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN to_tsvector('pg_catalog.simple', regexp_replace(regexp_replace(regexp_replace(
        left(content, 65536) COLLATE "C",
        '[\x01-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+', ' ', 'g'),
        '([a-z0-9])([A-Z])', '\1 \2', 'g'),
        '([A-Z])([A-Z][a-z])', '\1 \2', 'g'));

-- Tasks without a query and without an error, the most, cost nothing here. A query never changes; an error comes with
-- the end of an attempt that failed.
CREATE INDEX task_executions_query_words ON task_executions USING gin (task_words(query)) WHERE query IS NOT NULL;
CREATE INDEX task_executions_error_words ON task_executions USING gin (task_words(error)) WHERE error IS NOT NULL;

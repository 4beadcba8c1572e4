-- How many top-level steps of a workflow completed and run, and how far those are that have parts of their own: items,
-- rounds or steps, as JSON.
ALTER TABLE task_executions
    ADD COLUMN steps_completed integer,
    ADD COLUMN steps_running integer,
    ADD COLUMN steps_parts json;

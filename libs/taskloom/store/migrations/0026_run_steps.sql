-- How far a workflow is: its top-level steps, those that ended and those that failed, and the one that began last.
ALTER TABLE task_executions
    ADD COLUMN steps_total integer,
    ADD COLUMN steps_ended integer,
    ADD COLUMN steps_failed integer,
    ADD COLUMN current_step text;

-- Of a workflow: how many top-level steps completed and run, how far those are that have items, rounds or steps of their
-- own (JSON), how often it was retried, and after which retry it last began from its start.
ALTER TABLE task_executions
    ADD COLUMN steps_completed integer,
    ADD COLUMN steps_running integer,
    ADD COLUMN steps_parts json,
    ADD COLUMN restarts integer,
    ADD COLUMN steps_since integer;

-- One row a step of a run that is no task of its own, and one a step with a task that did not complete: all that the rows
-- of those tasks in task_executions (run~path) do not say. Folded from the run's events (libs/taskloom/views/steps).
CREATE TABLE task_execution_steps (
    task_id    text COLLATE "C" NOT NULL,
    path       text COLLATE "C" NOT NULL,
    kind       text             NOT NULL,
    status     text             NOT NULL,
    -- The step around it, and which item or round of that it belongs to.
    parent     text COLLATE "C",
    number     integer,
    started_at timestamptz,
    ended_at   timestamptz,
    error      text,
    error_type text,
    -- Failed, and the workflow went on with that.
    handled    boolean,
    -- JSON, as bytes.
    result     bytea,
    PRIMARY KEY (task_id, path)
);

-- Variables of a run that changed since its submission, by name; both are bytes, since text does not take every name.
CREATE TABLE run_variables (
    task_id text COLLATE "C" NOT NULL,
    name    bytea            NOT NULL,
    value   bytea            NOT NULL,
    PRIMARY KEY (task_id, name)
);

-- What retention took out of the read tables (libs/taskloom/retention). The events stay, so these rows are no view of
-- them: whoever makes the read tables anew keeps these, and what was retired stays away.

-- One row a task whose rows are gone, small and for good. `version` is that of the task when they went: only an event after
-- it can bring them back. Events up to `counted` are in the metrics. `wanted`: the projection is to bring the rows back.
-- With `restored_at` they are there again, by request, and their age counts from then.
CREATE TABLE retired_tasks (
    task_id     text COLLATE "C" PRIMARY KEY,
    tenant_id   text COLLATE "C" NOT NULL,
    version     integer          NOT NULL,
    counted     integer          NOT NULL,
    retired_at  timestamptz      NOT NULL,
    wanted      boolean          NOT NULL DEFAULT false,
    restored_at timestamptz
);
CREATE INDEX retired_tasks_wanted ON retired_tasks (task_id) WHERE wanted;

-- Parts of tasks: `output` up to this seq, `traces` of goals up to this number. The task's row may be there.
CREATE TABLE retired_parts (
    task_id    text COLLATE "C" NOT NULL,
    part       text             NOT NULL CHECK (part IN ('output', 'traces')),
    up_to      bigint           NOT NULL,
    retired_at timestamptz      NOT NULL,
    PRIMARY KEY (task_id, part)
);

-- Sums of single hours that are gone: of `metrics_hours` those before this time.
CREATE TABLE retired_hours (
    table_name text        PRIMARY KEY,
    before     timestamptz NOT NULL
);

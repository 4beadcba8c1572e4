-- One row a goal: what was asked, its plans and how far it is, folded from the goal's events
-- (libs/taskloom/views/goals). How the task stands is in task_executions. JSON is json, not jsonb: it keeps its text.
CREATE TABLE goals (
    task_id       text COLLATE "C" PRIMARY KEY,
    tenant_id     text COLLATE "C" NOT NULL,
    user_id       text COLLATE "C" NOT NULL,
    session_id    text COLLATE "C" NOT NULL,
    goal          text             NOT NULL,
    -- Model, tools, agent, mentions and history, as they were asked for.
    asked         json             NOT NULL,
    created_at    timestamptz      NOT NULL,
    updated_at    timestamptz      NOT NULL,
    -- The version of the plan that holds, and all versions.
    plan          integer          NOT NULL,
    plans         json             NOT NULL,
    -- The states of its steps, and the one under way (from 0; -1 for none).
    states        json             NOT NULL,
    current       integer          NOT NULL,
    current_since timestamptz,
    total_steps   integer          NOT NULL,
    current_step  integer          NOT NULL,
    progress      integer          NOT NULL,
    summary       text             NOT NULL,
    summarized    integer          NOT NULL,
    input_tokens  bigint           NOT NULL,
    output_tokens bigint           NOT NULL,
    cost_usd      double precision NOT NULL,
    model_calls   integer          NOT NULL,
    tool_calls    integer          NOT NULL,
    model_used    text             NOT NULL,
    -- Calls of models under way, by the path of their step; and tool calls of the step under way that have traces.
    doing         json             NOT NULL,
    told          integer          NOT NULL,
    checkpoints   json             NOT NULL,
    traces        integer          NOT NULL,
    achieved      boolean,
    last_error    text             NOT NULL,
    ended_at      timestamptz
);

CREATE INDEX goals_of_session ON goals (tenant_id, session_id, created_at);
CREATE INDEX goals_of_user ON goals (tenant_id, user_id, created_at);

-- One row a step of a plan, of each of its versions.
CREATE TABLE goal_steps (
    task_id      text COLLATE "C" NOT NULL,
    plan         integer          NOT NULL,
    number       integer          NOT NULL,
    step_id      text             NOT NULL,
    type         text             NOT NULL,
    description  text             NOT NULL,
    status       text             NOT NULL,
    server       text             NOT NULL,
    tool         text             NOT NULL,
    args         json             NOT NULL,
    estimated_ms integer          NOT NULL,
    started_at   timestamptz,
    ended_at     timestamptz,
    ended        integer          NOT NULL,
    text         text             NOT NULL,
    calls        json             NOT NULL,
    usage        json             NOT NULL,
    model        text             NOT NULL,
    error        text             NOT NULL,
    PRIMARY KEY (task_id, plan, number)
);

-- What happened in a goal, for people: at most 5,000 a goal.
CREATE TABLE goal_traces (
    task_id  text COLLATE "C" NOT NULL,
    number   bigint           NOT NULL,
    type     text             NOT NULL,
    message  text             NOT NULL,
    at       timestamptz      NOT NULL,
    plan     integer          NOT NULL,
    step     integer          NOT NULL,
    metadata json             NOT NULL,
    PRIMARY KEY (task_id, number)
);

-- What clients said of sessions: few have a title or were ever removed. Tasks up to removed_at are no part of the session.
CREATE TABLE session_marks (
    tenant_id  text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    title      text             NOT NULL,
    removed_at timestamptz,
    PRIMARY KEY (tenant_id, session_id)
);

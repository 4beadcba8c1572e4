-- What a caller used of its rate limits in the window under way, one row for each caller and route with a limit of its
-- own (services/gateway/rates.py). `minute`, `hour` and `day` are the windows' numbers since 1970. The rows are few and
-- each is written with every batch of requests: room on the page keeps that off the index (HOT).
CREATE TABLE rate_windows (
    subject     text COLLATE "C" PRIMARY KEY,
    minute      bigint NOT NULL,
    minute_used bigint NOT NULL,
    hour        bigint NOT NULL,
    hour_used   bigint NOT NULL,
    day         bigint NOT NULL,
    day_used    bigint NOT NULL
) WITH (fillfactor = 30, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

"""The example's warehouse: a schema of its own in PostgreSQL."""

from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

import psycopg
from msgspec import Struct
from psycopg import sql

TABLES = """
CREATE SCHEMA IF NOT EXISTS {schema};
CREATE TABLE IF NOT EXISTS {schema}.orders (
    order_id text PRIMARY KEY, ordered_on date NOT NULL, country text NOT NULL, amount numeric(12, 2) NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.turnover (
    country text PRIMARY KEY, orders bigint NOT NULL, amount numeric(14, 2) NOT NULL
);
CREATE TABLE IF NOT EXISTS {schema}.loads (
    task_id text PRIMARY KEY, rows bigint NOT NULL, loaded_at timestamptz NOT NULL DEFAULT now()
);
"""
NOTE = "INSERT INTO {schema}.loads (task_id, rows) VALUES (%s, 0) ON CONFLICT DO NOTHING"
ADD_UP = """
INSERT INTO {schema}.turnover AS t SELECT country, count(*), sum(amount) FROM incoming GROUP BY country
ON CONFLICT (country) DO UPDATE SET orders = t.orders + excluded.orders, amount = t.amount + excluded.amount
"""


class Loaded(Struct, frozen=True):
    """``first_time`` is false when an earlier attempt of the same task had loaded the ``rows``."""

    rows: int
    first_time: bool


class Warehouse:
    """Tables ``orders``, ``turnover`` (sums by country, added to by each load) and ``loads`` (what was loaded)."""

    def __init__(self, dsn: str, schema: str) -> None:
        self._connection = psycopg.connect(dsn, autocommit=True)
        self._schema = sql.Identifier(schema)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._connection.close()

    def create(self) -> None:
        """Before the workflow, since programs that create the same at the same time disturb each other."""
        self._run(TABLES)

    def drop(self) -> None:
        self._run("DROP SCHEMA IF EXISTS {schema} CASCADE")

    def load(self, task_id: str, rows: Iterable[dict[str, Any]]) -> Loaded:
        """All or nothing, and once for a task: turnover is added to, so doing it twice would show.

        A second attempt beside a first one that still runs waits at the note of the task until that one has committed.
        """
        with self._connection.transaction():
            noted = self._run(
                "INSERT INTO {schema}.loads (task_id, rows) VALUES (%s, 0) ON CONFLICT DO NOTHING", task_id
            )
            if not noted.rowcount:
                return Loaded(self.loads()[task_id], first_time=False)
            self._run("CREATE TEMPORARY TABLE incoming (LIKE {schema}.orders) ON COMMIT DROP")
            with self._connection.cursor().copy("COPY incoming FROM STDIN") as copy:
                for row in rows:
                    copy.write_row((row["order_id"], row["ordered_on"], row["country"], row["amount"]))
            count = self._run("INSERT INTO {schema}.orders SELECT * FROM incoming").rowcount
            self._run(ADD_UP)
            self._run("UPDATE {schema}.loads SET rows = %s WHERE task_id = %s", count, task_id)
        return Loaded(count, first_time=True)

    def loads(self) -> dict[str, int]:
        """Rows by task."""
        return dict(self._run("SELECT task_id, rows FROM {schema}.loads").fetchall())

    def turnover(self) -> dict[str, tuple[int, str]]:
        """Number of orders and their amount by country, as the loads have added it up."""
        found = self._run("SELECT country, orders, amount::text FROM {schema}.turnover ORDER BY country").fetchall()
        return {country: (orders, amount) for country, orders, amount in found}

    def count_orders(self) -> int:
        [row] = self._run("SELECT count(*) FROM {schema}.orders").fetchall()
        return int(row[0])

    def _run(self, statement: str, *values: Any) -> psycopg.Cursor[Any]:
        return self._connection.execute(sql.SQL(statement).format(schema=self._schema), values or None)

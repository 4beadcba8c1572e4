"""The CSV files of the example, made from a seed: orders of several shops, some rows dirty on purpose."""

import csv
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

SHOPS: Final = ("berlin", "lisbon", "oslo")
COLUMNS: Final = ("order_id", "ordered_on", "country", "quantity", "price")
COUNTRIES: Final = ("DE", "PT", "NO", "FR")


def write_sources(directory: Path, rows: int, seed: int = 1) -> list[Path]:
    """One file a shop with ``rows`` rows each; the same bytes for the same arguments."""
    directory.mkdir(parents=True, exist_ok=True)
    return [_write(directory / f"{shop}.csv", shop, rows, random.Random(f"{seed}/{shop}")) for shop in SHOPS]


def _write(path: Path, shop: str, rows: int, dice: random.Random) -> Path:
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(COLUMNS)
        out.writerows(_rows(shop, rows, dice))
    return path


def _rows(shop: str, rows: int, dice: random.Random) -> Iterator[list[str]]:
    for number in range(rows):
        row = [
            f"{shop}-{number:05d}",
            f"2026-{dice.randint(1, 12):02d}-{dice.randint(1, 28):02d}",
            dice.choice(COUNTRIES),
            str(dice.randint(1, 20)),
            f"{dice.randint(99, 99_999) / 100:.2f}",
        ]
        fault = dice.random()
        if fault < 0.01:
            row[3] = dice.choice(("", "-3", "many"))
        elif fault < 0.02:
            row[4] = dice.choice(("n/a", "12,50", "-1.00"))
        elif fault < 0.03:
            row[1] = dice.choice(("2026-02-30", "yesterday"))
        elif fault < 0.04 and number:
            row[0] = f"{shop}-{dice.randrange(number):05d}"  # an order that was there before
        elif fault < 0.05:
            row[2] = f" {row[2].lower()} "  # untidy, not wrong
        yield row

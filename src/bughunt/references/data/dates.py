"""Dates as people write them, and in the order of ISO 8601; some name no day, some only a year."""

import datetime
import random

MONTHS = ("jan", "feb", "mar", "apr", "may", "june", "july", "aug", "sep", "oct", "nov", "dec")
FIRST_DAY, DAYS = datetime.date(1950, 1, 1), 29_000
SHAPES = (
    "{day} {month} {year}",
    "{year} {month} {day}",
    "{number}/{day}/{year}",
    "{month} {day}, {year}",
    "{day}. {month} '{ending}",
    "{month} {year}",
    "in {year}",
)
LENGTHS = (10, 10, 10, 10, 10, 7, 4)  # of the answer: year-month-day, year-month, year
WEIGHTS = (3, 3, 3, 3, 3, 2, 1)


def dates(count: int, seed: int) -> tuple[list[str], list[str]]:
    """`count` texts and the answers to them."""
    rng = random.Random(seed)
    texts, answers = zip(*(_date(rng) for _ in range(count)), strict=True)
    return list(texts), list(answers)


def _date(rng: random.Random) -> tuple[str, str]:
    day = FIRST_DAY + datetime.timedelta(days=rng.randrange(DAYS))
    shape = rng.choices(range(len(SHAPES)), WEIGHTS)[0]
    if shape == 4:  # two digits of a year are of the twentieth century
        day = day.replace(year=1950 + day.year % 50, day=min(day.day, 28))
    fields = {"day": day.day, "month": MONTHS[day.month - 1], "number": day.month, "year": day.year}
    text = SHAPES[shape].format(**fields, ending=f"{day.year % 100:02d}")
    return text, day.isoformat()[: LENGTHS[shape]]

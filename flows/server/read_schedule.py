"""Find the next times of a schedule as the Prefect server does, and refuse one that never comes."""

import asyncio
import re
from datetime import datetime
from typing import Any

from prefect.client.schemas.schedules import CronSchedule
from prefect.server.schemas.schedules import SCHEDULE_TYPES
from pydantic import BaseModel, TypeAdapter, ValidationError

from tailforge.schemas.documents.shown import count_of, shorten, show_text
from tailforge.schemas.errors import RecipeError

GIVE = "give five fields, minute hour day month weekday, such as '0 3 * * *'"
WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
CHARACTERS = re.compile(r"[0-9a-z*,/#?-]+", re.ASCII | re.IGNORECASE)
RANDOM = re.compile(r"[rh](\W|$)", re.IGNORECASE)
SERVER_SCHEDULE: TypeAdapter[Any] = TypeAdapter(SCHEDULE_TYPES)


def read_cron(cron: str, timezone: str) -> CronSchedule:
    """Return the schedule of five cron fields in a time zone.

    The server would also accept six or seven fields, words such as @daily and random times, and reads 0-0 as every
    minute.
    This function refuses them. Errors: RecipeError, also for a schedule that never comes.
    """
    fields = cron.split()
    wrong = _find_mistake(cron, fields)
    if wrong:
        raise RecipeError(f"--cron {show_text(cron)}: {wrong}; {GIVE}")

    if not timezone:
        raise RecipeError("--timezone is empty; give an IANA name such as Europe/Berlin")
    try:
        schedule = CronSchedule(cron=" ".join(fields), timezone=timezone)
    except ValidationError as error:
        first = error.errors()[0]
        mend = GIVE if first["loc"][0] == "cron" else "give an IANA name such as Europe/Berlin"
        said = shorten(first["msg"].removeprefix("Value error, "))
        raise RecipeError(f"--{first['loc'][0]} {show_text(first['input'])}: {said}; {mend}") from error
    try:
        next_dates(schedule, 1)
    except RecipeError as error:
        raise RecipeError(f"--cron {show_text(cron)}: {error}; {GIVE}") from error
    return schedule


def _find_mistake(cron: str, fields: list[str]) -> str | None:
    """Return the mistake in the shape of a cron text; None if its fields can be read."""
    if cron.strip().lower() in WORDS:
        return f"words are not accepted; it stands for {WORDS[cron.strip().lower()]!r}"
    if len(fields) != 5:
        return count_of(len(fields), "field") + ", and seconds or years are not accepted" * (len(fields) > 5)

    for part in (part for field in fields for part in field.split(",")):
        if not CHARACTERS.fullmatch(part) or RANDOM.match(part):
            return f"{show_text(part)} is not understood"
        first, dash, last = part.partition("/")[0].partition("-")
        if dash and first == last:
            return f"{show_text(part)} is a range of one value; write {show_text(first)}"
    return None


def next_dates(schedule: BaseModel, count: int) -> list[datetime]:
    """Return at most `count` next times of a schedule, as the server's scheduler computes them.

    Errors: RecipeError if it has none.
    """
    server = SERVER_SCHEDULE.validate_python(schedule.model_dump())
    try:
        dates: list[datetime] = asyncio.run(server.get_dates(count))
    except ValueError as error:  # croniter's BadDate among others
        raise RecipeError(f"it never comes ({error})") from error
    if not dates:
        raise RecipeError("it never comes")
    return dates

"""Which cron texts are taken, and when they come next."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tailforge.flows.server.read_schedule import GIVE, WORDS, next_dates, read_cron
from tailforge.schemas.errors import RecipeError


@pytest.mark.parametrize(
    ("cron", "wrong"),
    [
        ("0 0 3 * * *", "6 fields, and seconds or years are not accepted"),
        ("0 3 * * * *", "6 fields"),
        ("0 3 * * * 0 2027", "7 fields"),
        ("0 3 * *", "4 fields"),
        ("", "0 fields"),
        ("@daily", "words are not accepted; it stands for '0 0 * * *'"),
        ("@reboot", "1 field"),
        ("0 2 31 2 *", "it never comes"),
        ("0 3 31 4,6 *", "it never comes"),
        ("0 25 * * *", "Invalid cron string"),
        ("R(0-5) 3 * * *", "'R(0-5)' is not understood"),
        ("r 3 * * *", "'r' is not understood"),
        ("H/5 * * * *", "'H/5' is not understood"),
        ("０ ３ * * *", "is not understood"),
        ("9" * 100_000, "1 field"),
        ("9" * 100_000 + " 3 * * *", "Invalid cron string"),
        ("0-0 3 * * *", "'0-0' is a range of one value; write '0'"),
    ],
)
def test_what_is_no_schedule_is_refused(cron: str, wrong: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_cron(cron, "UTC")
    assert str(caught.value).startswith("--cron ")
    assert wrong in str(caught.value)
    assert GIVE in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("timezone", ["", "Mars/Base", " UTC"])
def test_what_is_no_time_zone_is_refused(timezone: str) -> None:
    with pytest.raises(RecipeError, match=r"--timezone .* IANA name such as Europe/Berlin"):
        read_cron("0 3 * * *", timezone)


def test_the_words_stand_for_fields_that_are_taken() -> None:
    for fields in WORDS.values():
        assert read_cron(fields, "UTC").cron == fields


@pytest.mark.parametrize("cron", ["0 3 29 2 *", "0 3 L * *", "*/15 0-6 * jan,feb mon-fri", "0 3 * * 5#2", "0 3 * * 7"])
def test_what_cron_knows_is_taken(cron: str) -> None:
    schedule = read_cron(cron, "Europe/Berlin")
    first, second = next_dates(schedule, 2)
    assert datetime.now(UTC) - timedelta(seconds=2) <= first < second


def test_the_hour_is_of_the_time_zone() -> None:
    (moment,) = next_dates(read_cron(" 30  3 * * *\n", "Asia/Kolkata"), 1)
    assert moment.astimezone(UTC).strftime("%H:%M") == "22:00"


@given(st.integers(0, 59), st.integers(0, 23))
def test_a_night_comes_within_a_day(minute: int, hour: int) -> None:
    (moment,) = next_dates(read_cron(f"{minute} {hour} * * *", "UTC"), 1)
    assert (moment.minute, moment.hour, moment.second) == (minute, hour, 0)
    assert moment - datetime.now(UTC) <= timedelta(days=1)

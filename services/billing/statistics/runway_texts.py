"""What is said of a balance and of unusual days, in English and German. Pure."""

from datetime import date, timedelta
from typing import Final

from services.billing.money import from_micro
from services.billing.statistics.runway import Burn, UnusualDay

__all__ = ["outlook_text", "unusual_text"]

_WEEKDAYS: Final = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "de": ("Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"),
}
_MONTHS: Final = {
    "en": (
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ),
    "de": (
        "Januar",
        "Februar",
        "März",
        "April",
        "Mai",
        "Juni",
        "Juli",
        "August",
        "September",
        "Oktober",
        "November",
        "Dezember",
    ),
}
_TEXTS: Final = {
    "en": {
        "too new": "There is too little usage yet to tell a rate.",
        "nothing": "Nothing has been spent in the last four weeks.",
        "rate": "Spent in a day: {amount}.",
        "over": "The balance is used up.",
        "limit reached": "The credit limit is reached.",
        "ends": "At this rate the balance ends {when}.",
        "reaches": "At this rate the credit limit is reached {when}.",
        "lasts": "At this rate the balance lasts for more than a year.",
        "limit lasts": "At this rate the credit limit lasts for more than a year.",
        "unusual": "{cost} were spent on {day}; on a {weekday} {usual} is usual.",
        "less": "less than CHF 0.01",
    },
    "de": {
        "too new": "Für eine Aussage ist noch zu wenig verbraucht worden.",
        "nothing": "In den letzten vier Wochen wurde nichts verbraucht.",
        "rate": "Verbrauch am Tag: {amount}.",
        "over": "Das Guthaben ist aufgebraucht.",
        "limit reached": "Die Kreditlimite ist erreicht.",
        "ends": "Bei diesem Verbrauch endet das Guthaben {when}.",
        "reaches": "Bei diesem Verbrauch ist die Kreditlimite {when} erreicht.",
        "lasts": "Bei diesem Verbrauch reicht das Guthaben länger als ein Jahr.",
        "limit lasts": "Bei diesem Verbrauch reicht die Kreditlimite länger als ein Jahr.",
        "unusual": "Am {day} wurden {cost} verbraucht; an einem {weekday} sind {usual} üblich.",
        "less": "weniger als CHF 0.01",
    },
}


def outlook_text(
    burn: Burn | None,
    *,
    available: int | None,
    ends: date | None,
    today: date,
    on_credit: bool,
    language: str,
) -> str:
    """When an amount ends, in words; where there is none that could, how much is spent. `on_credit` says that it is
    what is left of a credit limit."""
    texts = _TEXTS[_known(language)]
    if available is not None and available <= 0:
        return texts["limit reached" if on_credit else "over"]
    if burn is None:
        return texts["too new"]
    if not burn.per_day:
        return texts["nothing"]
    if available is None:
        return texts["rate"].format(amount=_chf(burn.per_day, language))
    if ends is None:
        return texts["limit lasts" if on_credit else "lasts"]
    return texts["reaches" if on_credit else "ends"].format(when=_when(ends, today, language))


def unusual_text(unusual: UnusualDay, language: str) -> str:
    """Why a day is unusual, in words."""
    return _TEXTS[_known(language)]["unusual"].format(
        cost=_chf(unusual.cost, language),
        usual=_chf(unusual.usual, language),
        day=_date(unusual.day, language),
        weekday=_weekday(unusual.day, language),
    )


def _when(day: date, today: date, language: str) -> str:
    """A day, as one speaks of it within a week."""
    german = _known(language) == "de"
    if day == today:
        return "heute" if german else "today"
    if day == today + timedelta(days=1):
        return "morgen" if german else "tomorrow"
    said = _weekday(day, language) if day < today + timedelta(days=7) else _date(day, language)
    return f"am {said}" if german else f"on {said}"


def _date(day: date, language: str) -> str:
    weekday, month = _weekday(day, language), _MONTHS[_known(language)][day.month - 1]
    if _known(language) == "de":
        return f"{weekday}, {day.day}. {month} {day.year}"
    return f"{weekday}, {day.day} {month} {day.year}"


def _weekday(day: date, language: str) -> str:
    return _WEEKDAYS[_known(language)][day.weekday()]


def _chf(micros: int, language: str) -> str:
    """An amount as people read it; what rounds to nothing is less than a rappen."""
    rounded = round(from_micro(micros), 2)
    return f"CHF {rounded}" if rounded or not micros else _TEXTS[_known(language)]["less"]


def _known(language: str) -> str:
    return "de" if language == "de" else "en"

"""Prices: what the usage of a model costs, exactly, by the price valid at the event's own time.

Usage (`Metered`: provider, model, token counts, quantities, service tier, conditions) goes into a `PriceBook`, an exact
cost with its derivation (`Priced`) or the name of what is missing (`Unpriced`) comes out. Nothing is guessed, nothing
is rounded, and nothing here reads a clock, a file or a database.

The form of a price version
---------------------------

A version is what one model of one provider costs from `valid_from` on. It is one JSON object, both in files that are
imported (`{"format": "rappen.prices.v1", "prices": [version, ...]}`) and in the database:

    {
      "provider": "google",
      "model": "gemini-2.5-pro",
      "currency": "USD",
      "valid_from": "2025-06-17T00:00:00Z",
      "source": "https://ai.google.dev/gemini-api/docs/pricing",
      "lists": [
        {"up_to": 200000, "prices": {"input": "0.00000125", "cache_read": "0.000000125", "output": "0.00001"}},
        {"above": 200000, "prices": {"input": "0.0000025", "cache_read": "0.00000025", "output": "0.000015"}},
        {"tier": "batch", "up_to": 200000, "prices": {"input": "0.000000625", "output": "0.000005"}},
        {"tier": "*", "prices": {"web_searches": "0.035"}},
        {"when": {"resolution": "720p"}, "prices": {"seconds": "0.1"}}
      ],
      "factors": [
        {"tier": "flex", "factor": "0.5"},
        {"when": {"region": "us"}, "factor": "1.1"},
        {"clock": [{"hours": "16:30-00:30", "weekdays": [1, 2, 3, 4, 5]}], "factor": "0.5"}
      ]
    }

* `provider` and `model` are matched byte by byte; a route or region prefix is part of the name.
* `valid_from` may be left out in a file: then the import's own time holds.
* `prices` maps components to the price of one unit. Components are the token kinds of the usage contract (`input`,
  `output`, `cache_read`, ...) and names of quantities (`images`, `seconds`, `web_searches`, ...). Every number of money
  and every factor is a decimal string; a JSON number is refused, as are negative ones and unknown fields.
* A list applies when all its selectors do: `tier` (one name, an array of names, or `*` for every tier; when absent
  `standard`, which usage may also call `default` or `on_demand`), the prompt length (`above` exclusive, `up_to`
  inclusive), every condition of `when` (`*` is any reported value that the version does not name), and one window of
  `clock`. A component's price is the one in the **last** list that applies and has it.
* The prompt length is the sum of all kinds the provider was sent: input, cache_read, cache_write, cache_write_1h,
  audio_input, audio_cache_read, image_input, image_cache_read, tool_input. A threshold re-prices the whole call: where
  one list of a tier prices tokens by length, all that price tokens in that tier must.
* `factors` multiply listed prices; several that apply multiply each other. `applies_to` is `tokens` (default) or `all`.
  A factor of a `tier` makes the standard prices hold there, times the factor, for what the tier has no price of its
  own. A factor of `when` or `clock` applies to whatever prices hold.
* A window is `hours` (`HH:MM-HH:MM`, the end exclusive, an end at or before the start on the next day; all day when
  absent), `weekdays` (1 is Monday, the day on which the window starts; every day when absent) and `zone`, the time zone
  whose clock and calendar both go by (UTC when absent).

What has no price
-----------------

A component with count 0 needs no price; any other without one makes the usage `Unpriced`. A price of "0" is a price.
A price that is not its own can hold for a kind of tokens, and the derivation of the charge then says so:

* A tier that prices something, but a kind nowhere, takes the kind's standard price ("at the standard price"). A tier
  without any price has none.
* A kind without a price of its own is priced as the kind that it is a part of ("as output"): `reasoning` as `output`,
  `cache_read`, `tool_input` and `image_input` as `input`; but not where its own price is hidden behind a condition, nor
  where the tier has another price for it at another length or in other hours. Writing to a cache, audio and
  `image_output` never are.

The tier `auto` says what was asked for, not what was served, and has no price. Conditions that the version does not
name do not change the price.
"""

from services.billing.pricing.book import PriceBook
from services.billing.pricing.bounds import EARLIEST, LATEST, OUT_OF_TIME, in_time, rate_fault, utc_text
from services.billing.pricing.changes import Change, Preview, PriceChange, diff, new_prices
from services.billing.pricing.json_form import version_from_text, version_to_json, version_to_text
from services.billing.pricing.litellm_file import read_litellm_file
from services.billing.pricing.price_file import PriceFile, PriceFileError, Unreadable
from services.billing.pricing.rappen_file import read_rappen_file
from services.billing.pricing.rates import Rate, RateTable, checked_rate
from services.billing.pricing.usage import Metered, Priced, Unpriced
from services.billing.pricing.version import (
    FALLBACKS,
    PROMPT_KINDS,
    TOKEN_KINDS,
    Factor,
    PriceError,
    PriceList,
    PriceVersion,
)

__all__ = [
    "EARLIEST",
    "FALLBACKS",
    "LATEST",
    "OUT_OF_TIME",
    "PROMPT_KINDS",
    "TOKEN_KINDS",
    "Change",
    "Factor",
    "Metered",
    "Preview",
    "PriceBook",
    "PriceChange",
    "PriceError",
    "PriceFile",
    "PriceFileError",
    "PriceList",
    "PriceVersion",
    "Priced",
    "Rate",
    "RateTable",
    "Unpriced",
    "Unreadable",
    "checked_rate",
    "diff",
    "in_time",
    "new_prices",
    "rate_fault",
    "read_litellm_file",
    "read_rappen_file",
    "utc_text",
    "version_from_text",
    "version_to_json",
    "version_to_text",
]

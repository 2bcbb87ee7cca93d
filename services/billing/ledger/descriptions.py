"""The descriptions of charges of usage, each once for what the usage was for, so that lists need not read the rows.

Many publishers describe every call, most of them in few words that come again and again. A list that is not about
descriptions then finds such charges as it finds those without one, and a search knows which dimensions can have its
text, and which have it in every charge. Charges without a description are kept as an empty one. Where usage of a
dimension is described in too many ways, that alone is kept of it.

What is new is committed before the charge that needs it, as new charge keys are; a description that nothing has does no
harm.
"""

from collections.abc import Collection, Iterable
from typing import Final, NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import driver_connection

__all__ = ["KEPT_MAX", "Described", "keep_descriptions"]

# Of one dimension; about as many as can be shown to somebody who chooses one.
KEPT_MAX: Final = 100


class Described(NamedTuple):
    """That usage of a dimension has a description, empty where it has none; None where it has more than are kept."""

    mandate_no: int
    dimension_no: int
    description: str | None


async def keep_descriptions(connection: AsyncConnection, given: Collection[Described]) -> list[Described]:
    """Keeps descriptions in the caller's transaction, new ones under the locks of their mandates; gives those of them
    that are kept, and the dimensions that have more. Nothing else is read: all that is kept of the dimensions of a
    batch can be some ten megabytes."""
    kept = await _kept_of(connection, given)
    new = _new(given, kept)
    if not new:
        return kept
    # Who waits for a description of somebody else's waits for its mandate: so captures of other mandates go on, which
    # share a transaction with those alone whose mandate is free.
    await driver_connection(connection).execute(
        "SELECT FROM mandates WHERE no = ANY($1) ORDER BY no FOR NO KEY UPDATE", sorted({key[0] for key in new})
    )
    # What somebody has kept meanwhile would count twice.
    kept = await _kept_of(connection, given)
    new = _new(given, kept)
    counts = await _counts(connection, new)
    added = [
        each
        for key, texts in new.items()
        for each in (texts if counts.get(key, 0) + len(texts) <= KEPT_MAX else [Described(*key, None)])
    ]
    # In one order, so that no two transactions wait for each other.
    added.sort(key=lambda each: (*each[:2], each.description or ""))
    await driver_connection(connection).execute(
        "INSERT INTO usage_descriptions (mandate_no, dimension_no, description)"
        " SELECT * FROM unnest($1::integer[], $2::integer[], $3::text[]) ON CONFLICT DO NOTHING",
        *_columns(added),
    )
    return [*kept, *added]


def _new(given: Collection[Described], kept: Collection[Described]) -> dict[tuple[int, int], list[Described]]:
    """What of the given is still to be kept, by mandate and dimension."""
    many = {each[:2] for each in kept if each.description is None}
    known = set(kept)
    new: dict[tuple[int, int], list[Described]] = {}
    for each in given:
        if each not in known and each[:2] not in many:
            new.setdefault(each[:2], []).append(each)
    return new


async def _kept_of(connection: AsyncConnection, given: Collection[Described]) -> list[Described]:
    rows = await driver_connection(connection).fetch(
        "WITH given AS (SELECT * FROM unnest($1::integer[], $2::integer[], $3::text[])"
        " AS given (mandate_no, dimension_no, description))"
        " SELECT u.mandate_no, u.dimension_no, u.description FROM given g JOIN usage_descriptions u"
        " ON u.mandate_no = g.mandate_no AND u.dimension_no = g.dimension_no AND u.description = g.description"
        " UNION ALL"
        " SELECT u.mandate_no, u.dimension_no, NULL FROM (SELECT DISTINCT mandate_no, dimension_no FROM given) g"
        " JOIN usage_descriptions u"
        " ON u.mandate_no = g.mandate_no AND u.dimension_no = g.dimension_no AND u.description IS NULL",
        *_columns(given),
    )
    return [Described(*row) for row in rows]


async def _counts(connection: AsyncConnection, keys: Collection[tuple[int, int]]) -> dict[tuple[int, int], int]:
    """How many descriptions of these mandates and dimensions are kept, where there are any."""
    rows = await driver_connection(connection).fetch(
        "SELECT u.mandate_no, u.dimension_no, count(*) FROM unnest($1::integer[], $2::integer[])"
        " AS g (mandate_no, dimension_no) JOIN usage_descriptions u"
        " ON u.mandate_no = g.mandate_no AND u.dimension_no = g.dimension_no GROUP BY 1, 2",
        *([key[part] for key in keys] for part in (0, 1)),
    )
    return {(row[0], row[1]): row[2] for row in rows}


def _columns(given: Iterable[Described]) -> tuple[list[int], list[int], list[str | None]]:
    rows = list(given)
    return [each.mandate_no for each in rows], [each.dimension_no for each in rows], [each.description for each in rows]

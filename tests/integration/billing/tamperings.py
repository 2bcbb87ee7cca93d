"""What somebody may do to the books behind the platform's back, and what the audit then says."""

from datetime import datetime
from typing import NamedTuple
from zoneinfo import ZoneInfo

__all__ = ["FAR_REACHING", "TAMPERINGS", "Tampering"]


class Tampering(NamedTuple):
    """Statements on a pool mandate (`:no` is its number, `:pool` and `:user_1` are accounts); the checks that fail and
    on which account, and what the first of them says."""

    statements: str
    named: list[tuple[str, str | None]]
    detail: str


_FIRST = "mandate_no = :no AND contra_account = 'REVENUE' AND seq = (SELECT min(seq) FROM transactions WHERE"
_FIRST += " mandate_no = :no AND contra_account = 'REVENUE')"
_DATES_DIFFER = datetime.now(ZoneInfo("Europe/Zurich")).date() != datetime.now(ZoneInfo("Pacific/Kiritimati")).date()

TAMPERINGS = {
    "the remainder of an account": Tampering(
        "UPDATE accounts SET rounding_remainder = rounding_remainder / 2 WHERE no = :pool",
        [("remainder", "pool")],
        "remainder -0.0000",
    ),
    "the remainder that a charge leaves": Tampering(
        'UPDATE transactions SET derivation = regexp_replace(derivation, \'"carry_after":"[^"]*"\','
        f' \'"carry_after":"0.00000012"\') WHERE {_FIRST}',
        [("remainder", "pool"), ("prices", "pool")],
        "does not take up the remainder",
    ),
    "the remainder that a charge takes up, as JSON of another order": Tampering(
        "UPDATE transactions SET derivation = jsonb_set(derivation::jsonb, '{carry_before}', '\"0.0000001\"')::text"
        f" WHERE {_FIRST}",
        [("remainder", "pool"), ("prices", "pool")],
        "does not take up the remainder",
    ),
    "the cost of a charge": Tampering(
        'UPDATE transactions SET derivation = regexp_replace(derivation, \'"amount":"[^"]*"\', \'"amount":"1"\')'
        f" WHERE {_FIRST}",
        [("prices", "pool")],
        ", its price is 1.",
    ),
    "the markup of a charge": Tampering(
        'UPDATE transactions SET derivation = regexp_replace(derivation, \'"markup":"[^"]*"\', \'"markup":"51"\')'
        f" WHERE {_FIRST}",
        [("prices", "pool")],
        "was priced at",
    ),
    "a cost that is no number, as JSON of another order": Tampering(
        "UPDATE transactions SET derivation = jsonb_set(derivation::jsonb, '{cost,amount}', '\"x\"')::text"
        f" WHERE {_FIRST}",
        [("prices", "pool")],
        "cannot be priced again",
    ),
    "the currency of a charge": Tampering(
        "UPDATE transactions SET derivation = jsonb_set(derivation::jsonb, '{cost,currency}', '\"USD\"')::text"
        f" WHERE {_FIRST}",
        [("prices", "pool")],
        "cannot be priced again: rate None is none of USD",
    ),
    "the cost of a charge, with the name by which rows of releases before are known": Tampering(
        'UPDATE transactions SET derivation = regexp_replace(left(derivation, -1), \'"amount":"[^"]*"\','
        f""" '"amount":"1"') || ',"exact":"1"}}' WHERE {_FIRST}""",
        [("prices", "pool")],
        "cannot be priced again: derivation: not as a charge writes it",
    ),
    "the cost of a charge, with a second remainder that makes up for it": Tampering(
        'UPDATE transactions SET derivation = regexp_replace(left(derivation, -1), \'"amount":"[^"]*"\','
        f""" '"amount":"1"') || ',"carry_after":"1.485"}}' WHERE {_FIRST}""",
        [("prices", "pool")],
        "cannot be priced again: derivation: not as a charge writes it",
    ),
    "a derivation that the database cannot read as JSON": Tampering(
        f"""UPDATE transactions SET derivation = '{{"x":"\\u0000","exact":1e999999}}' WHERE {_FIRST}""",
        [("prices", "pool"), ("remainder", "pool")],
        "cannot be priced again: derivation: ",
    ),
    "remainders that together are more than the database can hold": Tampering(
        """UPDATE transactions SET derivation = regexp_replace(derivation, '^.*"markup"',"""
        f""" '{{"carry_before":"-9e131071","carry_after":"9e131071","markup"') WHERE {_FIRST}""",
        [("remainder", "pool"), ("prices", "pool")],
        "does not explain its amount",
    ),
    **{
        f"the time of a charge, to {time}": Tampering(
            f"UPDATE transactions SET occurred_at = '{time}' WHERE {_FIRST}",
            [("prices", "pool"), ("days", "user_1")],
            "cannot be priced again: ",
        )
        for time in ("infinity", "-infinity", "0044-03-15 BC", "290000-01-01")
    },
    **{
        f"a derivation that is {derivation or 'empty'}": Tampering(
            f"UPDATE transactions SET derivation = {derivation} WHERE {_FIRST}",
            [("prices", "pool"), ("remainder", "pool")],
            "cannot be priced again: derivation: ",
        )
        for derivation in ("NULL", "''", "'{}'", "'[]'", "'not JSON'")
    },
    "days with their rollups": Tampering(
        "UPDATE transactions SET period_day = period_day + 40 WHERE mandate_no = :no AND member_account_no = :user_1"
        " AND contra_account = 'REVENUE'; UPDATE rollups SET day = day + 40 WHERE member_account_no = :user_1",
        [("days", "user_1")],
        "4 rows are on another day than that of their time, the first on 2026-06-13",
    ),
    "the time of a credit": Tampering(
        "UPDATE transactions SET occurred_at = occurred_at - interval '2 days' WHERE mandate_no = :no"
        " AND contra_account = 'PAYMENT_PROVIDER'",
        [("days", "pool")],
        "1 rows are on another day",
    ),
    "the time zone of a mandate": Tampering(
        "UPDATE mandates SET time_zone = 'Pacific/Kiritimati' WHERE no = :no",
        # The credit on the pool is of now, when there may be one date in both zones.
        [*([("days", "pool")] if _DATES_DIFFER else []), ("days", "user_1"), ("days", "user_2")],
        "on another day",
    ),
    "rollups that cancel out": Tampering(
        "UPDATE rollups SET cost = cost + 5 WHERE member_account_no = :user_1 AND day = '2026-05-04';"
        " UPDATE rollups SET cost = cost - 5 WHERE member_account_no = :user_2 AND day = '2026-05-04'",
        [("rollups", "user_1"), ("rollups", "user_2")],
        "1 rollups differ, the first of 2026-05-04",
    ),
    "rollups that cancel out on accounts without usage": Tampering(
        "INSERT INTO rollups SELECT mandate_no, :pool, day, dimension_no, 5, 1 FROM rollups"
        " WHERE member_account_no = :user_1 LIMIT 1;"
        " INSERT INTO rollups SELECT mandate_no, :internal, day, dimension_no, -5, -1 FROM rollups"
        " WHERE member_account_no = :user_1 LIMIT 1",
        [("rollups", "pool"), ("rollups", "internal")],
        "1 rollups differ",
    ),
    "the number of an account's rows, ahead": Tampering(
        "UPDATE accounts SET seq = seq + 1 WHERE no = :pool",
        [("balance", "pool")],
        "its number of rows is 12, there are 11",
    ),
    "the number of an account's rows, behind": Tampering(
        "UPDATE accounts SET seq = seq - 1 WHERE no = :admin",
        [("balance", "admin")],
        "its number of rows is 0, there are 1",
    ),
    "the last row of a chain": Tampering(
        "DELETE FROM transactions WHERE posted_account_no = :pool AND seq = 11;"
        " DELETE FROM payment_credits WHERE mandate_no = :no",
        [("balance", "pool"), ("balance", "payment_provider")],
        "its number of rows is 11, there are 10",
    ),
    "the billing model, told as switched": Tampering(
        "UPDATE mandates SET billing_model = 'PREPAY_USER' WHERE no = :no; INSERT INTO audit_log"
        " (mandate_no, actor, action, after, at)"
        " VALUES (:no, 'x', 'model', '{\"billingModel\": \"PREPAY_USER\"}', now())",
        [("idle", "pool"), ("holds", "user_1")],
        "on an account MANDATE in PREPAY_USER",
    ),
    "the billing model": Tampering(
        "UPDATE mandates SET billing_model = 'CREDIT_POSTPAY' WHERE no = :no",
        [("model", None), ("invoices", "pool")],
        "it is CREDIT_POSTPAY, switched to none",
    ),
    "a payment": Tampering(
        "DELETE FROM payment_credits WHERE mandate_no = :no",
        [("credits", None)],
        ": recorded 0, rows 10000000",
    ),
    "a payment without its row": Tampering(
        "INSERT INTO payment_credits (mandate_no, event_id, reference, amount, credited_at)"
        " VALUES (:no, gen_random_uuid(), 'cs_never', 5, now())",
        [("credits", None)],
        "PAYMENT_PROVIDER cs_never: recorded 5, rows 0",
    ),
    "a payment and its row": Tampering(
        "DELETE FROM transactions WHERE mandate_no = :no AND contra_account = 'PAYMENT_PROVIDER';"
        " UPDATE accounts SET seq = seq - 1, balance = balance - 10000000 WHERE no = :pool;"
        " UPDATE accounts SET seq = seq - 1, balance = balance + 10000000 WHERE no = :payment_provider",
        [("credits", None)],
        ": recorded 10000000, rows 0",
    ),
    "a budget": Tampering(
        "DELETE FROM subscription_budgets WHERE mandate_no = :no",
        [("credits", None)],
        ": recorded 0, rows 20000000",
    ),
    "the amount of a budget": Tampering(
        "UPDATE subscription_budgets SET amount = 1 WHERE mandate_no = :no",
        [("credits", None)],
        ": recorded 1, rows 20000000",
    ),
    "the log of a manual credit": Tampering(
        "DELETE FROM audit_log WHERE mandate_no = :no AND action = 'credit'",
        [("credits", None)],
        "ADMIN : recorded 0, rows 7000000",
    ),
    "an opening credit that was not given": Tampering(
        "UPDATE accounts SET opening_credit_at = now(), opening_credit = 10 WHERE no = :user_1",
        [("credits", "user_1")],
        "PROMOTIONAL : recorded 10, rows 0",
    ),
    "a mandate": Tampering(
        "DELETE FROM mandates WHERE no = :no",
        [("accounts", "pool"), ("accounts", "user_1"), ("accounts", "admin")],
        "does not exist",
    ),
    "an account": Tampering(
        "DELETE FROM accounts WHERE no = :user_2",
        [("accounts", "user_2"), ("holds", "user_2")],
        "the account that rows name does not exist",
    ),
    "a contra account": Tampering(
        "DELETE FROM accounts WHERE no = :admin",
        [("accounts", "pool"), ("zero_sum", None)],
        "its mandate has no account ADMIN",
    ),
    "an event that is free and charged": Tampering(
        "INSERT INTO unposted_events (mandate_no, event_id, digest, reason, detail, occurred_at, recorded_at,"
        f" price_revision) SELECT mandate_no, event_id, digest, 'FREE', '', occurred_at, recorded_at, 0"
        f" FROM transactions WHERE {_FIRST}",
        [("claims", "user_1")],
        "1 events are charged and claimed as free or cancelled too, one is ",
    ),
    "what remains of a grant": Tampering(
        "INSERT INTO grants VALUES (:no, DEFAULT, :pool, 'BUDGET', 5, 3, true, now(), now() + interval '1 day',"
        " 'SUBSCRIPTION_GRANT', 'SUBSCRIPTION', 'x', 'x')",
        [("grants", "pool")],
        "remains 3, its rows leave 0; granted 20000000, of its grants remains 20000003",
    ),
    "what a row did to a grant": Tampering(
        f"UPDATE transactions SET grants = '123456789012:-5' WHERE {_FIRST}",
        [("grants", "pool")],
        "of grant 123456789012 remains 0, its rows leave -5",
    ),
    "what a row did to a grant, so that it cannot be read": Tampering(
        f"UPDATE transactions SET grants = '1 of 2' WHERE {_FIRST}",
        [("grants", "pool")],
        "of grant 0 remains 0, its rows leave 1",
    ),
    "how much of a balance are grants": Tampering(
        "UPDATE accounts SET granted = granted - 1 WHERE no = :pool",
        [("grants", "pool")],
        "granted 19999999, of its grants remains 20000000",
    ),
    "that a promotion was redeemed": Tampering(
        "WITH made AS (INSERT INTO promotions VALUES (gen_random_uuid(), :no, 5, now(), 'x', NULL, 'user-1', now())"
        " RETURNING id) INSERT INTO promotion_redemptions SELECT :no, id, 'user-1', now() FROM made",
        [("credits", None)],
        "recorded 5, rows 0",
    ),
    "what is held on an account": Tampering(
        "UPDATE accounts SET held = held + 1 WHERE no = :pool",
        [("held", "pool")],
        "held 250001, 1 open holds of 250000",
    ),
    "what is held on an account without holds": Tampering(
        "UPDATE accounts SET held = 7 WHERE no = :internal",
        [("held", "internal")],
        "held 7, 0 open holds of 0",
    ),
    "the amount of a hold": Tampering(
        "UPDATE holds SET amount = amount * 2 WHERE mandate_no = :no AND state = 'OPEN'",
        [("held", "pool")],
        "held 250000, 1 open holds of 500000",
    ),
    "an open hold": Tampering(
        "DELETE FROM holds WHERE mandate_no = :no AND state = 'OPEN'",
        [("held", "pool")],
        "held 250000, 0 open holds of 0",
    ),
    "a hold that was not given back": Tampering(
        "UPDATE holds SET state = 'EXPIRED', settled_at = now() WHERE mandate_no = :no AND state = 'OPEN'",
        [("held", "pool")],
        "held 250000, 0 open holds of 0",
    ),
    "a captured hold that is open again": Tampering(
        "UPDATE holds SET state = 'OPEN', settled_at = NULL, settled_by = NULL WHERE mandate_no = :no"
        " AND state = 'CAPTURED'",
        [("held", "pool")],
        "held 250000, 2 open holds of 500000",
    ),
    "the account of a hold": Tampering(
        "UPDATE holds SET account_no = :user_1 WHERE mandate_no = :no AND state = 'OPEN'",
        [("held", "pool"), ("held", "user_1"), ("holds", "user_1")],
        "open holds of 0",
    ),
    "the account of a hold with what is held": Tampering(
        "UPDATE holds SET account_no = :user_1 WHERE mandate_no = :no AND state = 'OPEN';"
        " UPDATE accounts SET held = 0 WHERE no = :pool; UPDATE accounts SET held = 250000 WHERE no = :user_1",
        [("holds", "user_1")],
        "in PREPAY_MANDATE",
    ),
    "the member of a hold": Tampering(
        "UPDATE holds SET member_account_no = :pool WHERE mandate_no = :no AND state = 'OPEN'",
        [("holds", "pool")],
        "is of no member",
    ),
    "that a balance is low": Tampering(
        "UPDATE accounts SET low = NOT low WHERE no = :pool",
        [("low", "pool")],
        "noted as low, balance 3",
    ),
    "the warning threshold of a mandate": Tampering(
        "UPDATE mandates SET warning_threshold_percent = 100 WHERE no = :no",
        [("low", "pool")],
        "not noted as low",
    ),
    "a recharge that was never paid": Tampering(
        "INSERT INTO recharges (mandate_no, id, account_no, amount, units, month, crossing, state, requested_at,"
        " expires_at, settled_at, cause) SELECT :no, gen_random_uuid(), :pool, 1, 1, '2026-05-01', 1, 'SUCCEEDED',"
        " now(), now(), now(), 'pi_never'",
        [("low", "pool")],
        "1 recharges succeeded without a credit",
    ),
    "the usage of a hold": Tampering(
        "UPDATE holds SET settled_by = gen_random_uuid() WHERE mandate_no = :no AND state = 'CAPTURED'",
        [("holds", "user_2")],
        "which is not there",
    ),
    "what counts towards a limit": Tampering(
        "INSERT INTO limit_costs VALUES (:no, 'feature', 'unused', '2199-12-31', 5)",
        [("limits", None)],
        "1 costs are wrong: 2199-12-31 of feature unused is 5, the rollups say 0",
    ),
    "what counts towards no limit": Tampering(
        "INSERT INTO limit_costs VALUES (:no, 'model', 'unused', '2199-12-31', 0)",
        [("limits", None)],
        "of model unused is 0, the rollups say 0",
    ),
    "what is held towards a limit": Tampering(
        "UPDATE limits SET held = held + 7 WHERE mandate_no = :no AND kind = 'feature'",
        [("limits", None)],
        "held for feature unused is 7, open holds 0",
    ),
    "since when costs count towards limits": Tampering(
        "UPDATE mandates SET limits_since = '2026-05-05' WHERE no = :no",
        [("limits", None)],
        "1 costs are wrong: 2026-05-05 of model claude-sonnet-4-5 is missing, the rollups say ",
    ),
    "the mark of a mandate with limits": Tampering(
        "UPDATE mandates SET limits_since = NULL WHERE no = :no",
        [("limits", None)],
        "its limits are not marked as such",
    ),
    "a sum of rollups": Tampering(
        "INSERT INTO rollup_sums VALUES (:no, 'month', '2026-05-01', 1, 0, 0)",
        [("sums", None)],
        "1 sums are not those of the rollups, the first is that of the month of 2026-05-01",
    ),
    "up to which day rollups are summed": Tampering(
        "UPDATE mandates SET summed_until = '2199-12-31' WHERE no = :no",
        [("sums", None)],
        "sums are not those of the rollups, the first is that of the day of ",
    ),
    "a block of workflows": Tampering(
        "DELETE FROM workflow_blocks WHERE mandate_no = :no AND workflow_ids LIKE '%w-2%'",
        [("workflows", "pool")],
        "2 workflows of rows are not in their block, 0 of blocks are of no row, the first is w",
    ),
    "the workflows of a block": Tampering(
        "UPDATE workflow_blocks SET workflow_ids = replace(workflow_ids, 'w-1', 'w-7') WHERE mandate_no = :no"
        " AND workflow_ids LIKE '%w-1%'",
        [("workflows", "pool")],
        "1 workflows of rows are not in their block, 1 of blocks are of no row, the first is w-1",
    ),
    "where a block of workflows ends": Tampering(
        "UPDATE workflow_blocks SET last_seq = first_seq WHERE mandate_no = :no AND workflow_ids LIKE '%w-1%'",
        [("workflows", "pool")],
        "1 workflows of rows are not in their block, 0 of blocks are of no row, the first is w",
    ),
    "where a block of workflows begins": Tampering(
        "UPDATE workflow_blocks SET first_seq = last_seq WHERE mandate_no = :no AND workflow_ids LIKE '%w-1%'",
        [("workflows", "pool")],
        " workflows of rows are not in their block, ",
    ),
    "the account of a block of workflows": Tampering(
        "UPDATE workflow_blocks SET account_no = :user_1 WHERE mandate_no = :no AND workflow_ids LIKE '%w-1%'",
        [("workflows", "pool"), ("workflows", "user_1")],
        "2 workflows of rows are not in their block, 0 of blocks are of no row, the first is w",
    ),
    "a description of usage": Tampering(
        "DELETE FROM usage_descriptions WHERE mandate_no = :no",
        [("descriptions", None)],
        "3 descriptions of charges are not kept, the first is ''",
    ),
    "the limits of a mandate that is marked": Tampering(
        "DELETE FROM limits WHERE mandate_no = :no",
        [("limits", None)],
        "its limits are not marked as such",
    ),
}
# Where more is wrong than what is said to be.
FAR_REACHING = {"a mandate", "a contra account", "rollups that cancel out on accounts without usage"}

"""What an invoice asks for: which month is over, how lines, VAT and total come to whole Rappen, references. Pure.

Prices of the ledger are final, so an invoice contains its VAT. Amounts of the ledger have six decimals, those of an
invoice two, so each line is rounded once, half to even, and what that leaves over goes into the next line; what the
last line leaves goes into the next invoice. So lines add up to the total, and all totals to the ledger, to the last
Rappen. The net amount is the total without the VAT that it contains, rounded half up, and so is each line's share.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from typing import Final, Literal, NamedTuple

from services.billing.ledger.calendars import Calendar

__all__ = [
    "MICROS_OF_A_RAPPEN",
    "Draft",
    "DraftLine",
    "IssuedLine",
    "LineKind",
    "PaymentState",
    "Totals",
    "applied_credit",
    "brought_forward",
    "draft_totals",
    "invoice_number",
    "is_qr_iban",
    "month_over",
    "payment_reference",
    "payment_state",
    "rounded_lines",
    "unspent",
]

# USAGE and STORAGE are charges; a CORRECTION takes charges of an earlier invoice back, or prices them again; BUDGET and
# PROMOTION are what was given, CREDIT what was paid already, and each pays for a part of them. BALANCE is what is owed
# otherwise: deductions by hand, a debt from before CREDIT_POSTPAY, a payment that went back.
LineKind = Literal["USAGE", "STORAGE", "CORRECTION", "BUDGET", "PROMOTION", "CREDIT", "BALANCE"]
PaymentState = Literal["OPEN", "PARTLY_PAID", "PAID", "OVERPAID"]

MICROS_OF_A_RAPPEN: Final = 10_000
# Far more digits than an amount and a percentage have together.
_CONTEXT: Final = Context(prec=60)


@dataclass(frozen=True, slots=True)
class DraftLine:
    """What a line is for, and its exact cost (micro-CHF); negative where it lowers the invoice."""

    kind: LineKind
    first_day: date
    last_day: date
    provider: str | None
    model: str | None
    feature_code: str | None
    feature_instance_id: str | None
    count: int
    cost: int


@dataclass(frozen=True, slots=True)
class IssuedLine:
    """A line with its amounts in whole Rappen, as micro-CHF: with its VAT, and without."""

    draft: DraftLine
    amount: int
    net: int


class Totals(NamedTuple):
    """The sums of an invoice, in micro-CHF of whole Rappen; `carry_after` is what its rounding leaves over."""

    total: int
    net: int
    vat: int
    carry_after: int


@dataclass(frozen=True, slots=True)
class Draft:
    """What would be invoiced: lines, and the rounding that earlier invoices left over (micro-CHF)."""

    lines: Sequence[DraftLine]
    carry_before: int

    @property
    def exact(self) -> int:
        """What all lines cost, with what was left over (micro-CHF)."""
        return self.carry_before + sum(line.cost for line in self.lines)


def month_over(calendar: Calendar, now: datetime, settle: timedelta) -> tuple[date, date]:
    """First and last day of the newest month of a mandate that ended at least `settle` ago."""
    today = calendar.day(now)
    end = today.replace(day=1)
    if now < calendar.begin(end) + settle:
        end = (end - timedelta(days=1)).replace(day=1)
    last = end - timedelta(days=1)
    return last.replace(day=1), last


def draft_totals(draft: Draft, vat_percent: Decimal) -> Totals:
    """Total, net and VAT of a draft: the total is its exact cost, rounded half to even."""
    rappen = _half_even(draft.exact)
    total = rappen * MICROS_OF_A_RAPPEN
    net = _without_vat(rappen, vat_percent) * MICROS_OF_A_RAPPEN
    return Totals(total, net, total - net, draft.exact - total)


def rounded_lines(draft: Draft, vat_percent: Decimal) -> list[IssuedLine]:
    """The lines with their amounts. Those add up to the total, and the net ones to the net amount."""
    exact, asked, net = draft.carry_before, _half_even(draft.carry_before), 0
    issued = []
    for line in draft.lines:
        exact += line.cost
        up_to = _half_even(exact)
        net_up_to = _without_vat(up_to, vat_percent)
        issued.append(IssuedLine(line, (up_to - asked) * MICROS_OF_A_RAPPEN, (net_up_to - net) * MICROS_OF_A_RAPPEN))
        asked, net = up_to, net_up_to
    return issued


def unspent(*, paid_balance: int, later: int, open_before: int, draft: Draft) -> int:
    """What the pool's paid balance (micro-CHF) would be if everything that is asked for were paid: this invoice, what
    of earlier ones is open, and what the next ones will ask for (`later`). Below zero it is owed and on no invoice."""
    return paid_balance + later + open_before + draft.exact


def applied_credit(left: int, total: int) -> int:
    """How much of a total (micro-CHF) is settled by what is `unspent`, in whole Rappen."""
    return max(0, min(total, left // MICROS_OF_A_RAPPEN * MICROS_OF_A_RAPPEN))


def brought_forward(left: int) -> int:
    """What is owed beside all that is asked for (micro-CHF) where less than nothing is `unspent`, in whole Rappen."""
    return max(0, -left // MICROS_OF_A_RAPPEN * MICROS_OF_A_RAPPEN)


def payment_state(due: int, paid: int) -> PaymentState:
    """What became of an amount that is due, in micro-CHF."""
    if paid == due:
        return "PAID"
    if paid > due:
        return "OVERPAID"
    return "PARTLY_PAID" if paid > 0 else "OPEN"


def invoice_number(year: int, number: int) -> str:
    """The number of an invoice: counted without a gap from one on in each year, and at least six digits long."""
    return f"{year}-{number:06d}"


def is_qr_iban(iban: str) -> bool:
    """Whether an account's number is a QR-IBAN, by the range that their institutions have."""
    return "30000" <= iban[4:9] <= "31999"


def payment_reference(number: str, *, qr_iban: bool) -> str:
    """The reference by which a payment is recognised: with a QR-IBAN a QR reference of 27 digits, else a creditor
    reference of ISO 11649."""
    digits = "".join(each for each in number if each.isdigit())
    if qr_iban:
        padded = digits.rjust(26, "0")
        return padded + str(_recursive_mod_10(padded))
    # As ISO 7064 mod 97-10 counts: letters are numbers from 10 on.
    return f"RF{98 - int(digits + '271500') % 97:02d}{digits}"


_MOD_10: Final = (0, 9, 4, 6, 8, 2, 7, 1, 3, 5)


def _recursive_mod_10(digits: Iterable[str]) -> int:
    carry = 0
    for digit in digits:
        carry = _MOD_10[(carry + int(digit)) % 10]
    return (10 - carry) % 10


def _half_even(micros: int) -> int:
    """Whole Rappen of an amount in micro-CHF, half to even."""
    rappen, rest = divmod(micros, MICROS_OF_A_RAPPEN)
    half = MICROS_OF_A_RAPPEN // 2
    return rappen + (1 if rest > half or (rest == half and rappen % 2) else 0)


def _without_vat(rappen: int, percent: Decimal) -> int:
    """Whole Rappen of an amount without the VAT that it contains, half up (away from zero)."""
    with_vat = _CONTEXT.add(Decimal(100), percent)
    net = _CONTEXT.divide(_CONTEXT.multiply(Decimal(rappen), Decimal(100)), with_vat)
    return int(net.quantize(Decimal(1), rounding=ROUND_HALF_UP, context=_CONTEXT))

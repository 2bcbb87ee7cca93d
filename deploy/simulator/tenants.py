"""The demo tenants: who they are, how they pay, what their people do all day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["OPERATOR", "TENANTS", "TOP_UP", "Member", "Tenant", "TopUp"]

# The system administrator as whom the demo is set up.
OPERATOR = "demo-operator"


@dataclass(frozen=True, slots=True)
class Member:
    """A person; `habits` gives the share of their work by feature, `activity` how much they work beside others."""

    id: str
    first_name: str
    last_name: str
    habits: Mapping[str, int]
    activity: int = 2
    admin: bool = False

    @property
    def name(self) -> str:
        """The name to show."""
        return f"{self.first_name} {self.last_name}"


@dataclass(frozen=True, slots=True)
class Tenant:
    """A mandate; `credit` is what the operator gives in CHF: to the pool, or to each member's own budget."""

    id: str
    label: str
    billing_model: str
    credit: int
    members: tuple[Member, ...]
    plan: str | None = None
    # Where its invoices go; who pays by the month needs one.
    address: Mapping[str, str] | None = None

    @property
    def admin(self) -> Member:
        """Who administers it."""
        return next(member for member in self.members if member.admin)

    @property
    def features(self) -> list[str]:
        """The features that its members use, in alphabetical order."""
        return sorted({feature for member in self.members for feature in member.habits})

    def instance_of(self, feature: str) -> str:
        """The id of its copy of a feature."""
        return f"{self.id}-{feature}"


@dataclass(frozen=True, slots=True)
class TopUp:
    """What the page of the fake Stripe that the demo shows would pay in, in CHF."""

    tenant: Tenant
    amount: int


MANAGER = {"chat": 8, "transcription": 1}
DEVELOPER = {"chat": 3, "automation": 7}
DESIGNER = {"image-studio": 3, "chat": 7}
ANALYST = {"chat": 3, "automation": 4, "transcription": 2}

_ACME = Tenant(
    "acme-ag",
    "Acme AG",
    "PREPAY_MANDATE",
    400,
    (
        Member("anna.keller", "Anna", "Keller", MANAGER, activity=2, admin=True),
        Member("luca.bernasconi", "Luca", "Bernasconi", DEVELOPER, activity=5),
        Member("sophie.rochat", "Sophie", "Rochat", DESIGNER, activity=2),
        Member("nils.baumann", "Nils", "Baumann", ANALYST, activity=4),
        Member("elif.yilmaz", "Elif", "Yilmaz", MANAGER, activity=3),
    ),
)
_HELVETIA = Tenant(
    "helvetia-labs",
    "Helvetia Labs",
    "PREPAY_USER",
    50,
    (
        Member("marco.frei", "Marco", "Frei", DEVELOPER, activity=4, admin=True),
        Member("lea.zbinden", "Lea", "Zbinden", ANALYST, activity=3),
        Member("jonas.meier", "Jonas", "Meier", MANAGER, activity=1),
        Member("aline.favre", "Aline", "Favre", DESIGNER, activity=1),
    ),
)
# Small enough to run dry while somebody watches; then its people wait until its top-up is paid.
_NORDWIND = Tenant(
    "nordwind-studio",
    "Nordwind Studio",
    "PREPAY_MANDATE",
    5,
    (
        Member("ida.brunner", "Ida", "Brunner", DESIGNER, activity=1, admin=True),
        Member("tim.odermatt", "Tim", "Odermatt", DEVELOPER, activity=2),
    ),
    plan="TRIAL_7D",
)

TENANTS = (_ACME, _HELVETIA, _NORDWIND)
TOP_UP = TopUp(_NORDWIND, 25)

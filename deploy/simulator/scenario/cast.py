"""The tenants of a round of the scenario: new ones in each, because a trial is had once."""

from __future__ import annotations

from typing import NamedTuple

from deploy.simulator.tenants import Member, Tenant

__all__ = ["Cast", "cast_of"]


class Cast(NamedTuple):
    """Three customers: on a plan paid by card, on a trial, and one that is invoiced by the month."""

    subscriber: Tenant
    trial: Tenant
    invoiced: Tenant

    @property
    def tenants(self) -> tuple[Tenant, ...]:
        """All of them."""
        return (self.subscriber, self.trial, self.invoiced)


# Labels, and the person who administers each.
_COMPANIES = (
    (("Alpina Design", "Mia", "Steiner"), ("Birkenhof", "Noah", "Graf"), ("Seefeld Klinik", "Clara", "Moser")),
    (("Rigi Verlag", "Leon", "Huber"), ("Lindenhof", "Emma", "Suter"), ("Aare Logistik", "David", "Kunz")),
    (("Piz Software", "Lara", "Caduff"), ("Sonnegg Praxis", "Jan", "Wyss"), ("Rheintal Bau", "Nina", "Egli")),
    (("Salina Media", "Fabio", "Rossi"), ("Tobler Optik", "Anja", "Furrer"), ("Gotthard Bahn", "Reto", "Arnold")),
)
_ADDRESS = {"street": "Seestrasse 1", "zip": "8002", "city": "Zürich", "country": "CH"}


def cast_of(number: int) -> Cast:
    """The tenants of a round, by its number from 1 on; its ids are those of this round alone."""
    lap, place = divmod(number - 1, len(_COMPANIES))
    subscriber, trial, invoiced = (
        _tenant(number, f"{label} {lap + 1}" if lap else label, first_name, last_name, model)
        for (label, first_name, last_name), model in zip(
            _COMPANIES[place], ("PREPAY_MANDATE", "PREPAY_MANDATE", "CREDIT_POSTPAY"), strict=True
        )
    )
    return Cast(subscriber, trial, invoiced)


def _tenant(number: int, label: str, first_name: str, last_name: str, billing_model: str) -> Tenant:
    id_ = "-".join([*label.lower().split()[:2], str(number)])
    admin = Member(
        f"{first_name}.{last_name}.{number}".lower(), first_name, last_name, habits={}, activity=0, admin=True
    )
    return Tenant(id_, label, billing_model, credit=0, members=(admin,), address=_ADDRESS)

"""Why the store refuses."""

from collections.abc import Mapping

from services.chassis.caller import Forbidden
from services.chassis.problems import Problem, Unavailable
from services.chassis.validation import both
from services.subscriptions.store.domain import Reason

__all__ = [
    "REFUSALS",
    "ActivationUnavailable",
    "FeatureUnknown",
    "InstanceUnknown",
    "LimitReached",
    "NoSubscription",
    "NotAdministered",
    "PaymentDeclined",
    "StripeIncomplete",
]


class FeatureUnknown(Problem):
    """The store has no such feature."""

    status = 404
    code = "FEATURE_UNKNOWN"
    title = "Unknown feature"
    texts = both("There is no such feature in the store.", "Dieses Feature gibt es im Store nicht.")


class NotAdministered(Forbidden):
    """The caller does not administer the mandate, or it is one of the operator's own."""

    code = "NO_ADMIN"
    texts = both(
        "Only administrators of the mandate may activate features in it.",
        "Nur Administratoren des Mandanten dürfen darin Features aktivieren.",
    )


class NoSubscription(Problem):
    """The mandate has no subscription that may be used."""

    status = 402
    code = "NO_SUBSCRIPTION"
    title = "Payment required"
    texts = both(
        "The mandate has no active subscription; start a plan first.",
        "Der Mandant hat kein aktives Abonnement; bitte zuerst einen Plan beginnen.",
    )


class StripeIncomplete(Problem):
    """The plan is charged, and its payment is not set up."""

    status = 402
    code = "STRIPE_INCOMPLETE"
    title = "Payment required"
    texts = both(
        "The payment of the subscription is not set up completely.",
        "Die Zahlung des Abonnements ist nicht vollständig eingerichtet.",
    )


class LimitReached(Problem):
    """The plan allows no more feature instances."""

    status = 402
    code = "LIMIT_REACHED"
    title = "Payment required"
    texts = both(
        "The plan allows no more feature instances; deactivate one, or change to a larger plan.",
        "Der Plan erlaubt keine weiteren Feature-Instanzen; bitte eine deaktivieren oder einen grösseren Plan wählen.",
    )


class PaymentDeclined(Problem):
    """The price of the instance could not be charged."""

    status = 402
    code = "PAYMENT_DECLINED"
    title = "Payment required"
    texts = both(
        "The payment was declined, so the feature was not activated; please check the payment method.",
        "Die Zahlung wurde abgelehnt, das Feature ist nicht aktiviert; bitte das Zahlungsmittel prüfen.",
    )


class ActivationUnavailable(Unavailable):
    """A service that the activation needs did not answer in time, and what was begun is undone."""

    texts = both(
        "The feature could not be activated in time, and nothing is charged for it; please try again.",
        "Das Feature konnte nicht rechtzeitig aktiviert werden, und es wird nichts dafür verrechnet; bitte noch"
        " einmal versuchen.",
    )


class InstanceUnknown(Problem):
    """There is no such instance in the mandate, or the caller has no access to it."""

    status = 404
    code = "INSTANCE_UNKNOWN"
    title = "Unknown feature instance"
    texts = both("You have no such feature instance.", "Diese Feature-Instanz haben Sie nicht.")


REFUSALS: Mapping[Reason, type[Problem]] = {
    "NO_ADMIN": NotAdministered,
    "NO_SUBSCRIPTION": NoSubscription,
    "STRIPE_INCOMPLETE": StripeIncomplete,
    "LIMIT_REACHED": LimitReached,
}

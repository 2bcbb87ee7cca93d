"""Why a plan cannot start now, or its end cannot be changed."""

from services.chassis.problems import Problem, Unavailable
from services.chassis.validation import FieldFault, both

__all__ = [
    "CheckoutEnded",
    "CheckoutRefused",
    "CheckoutUnavailable",
    "NoSubscription",
    "NotResumable",
    "OtherPlanRunning",
    "PlanRunning",
    "PlanScheduled",
    "PlanTooSmall",
    "ReturnUrlNotAllowed",
    "StartedMeanwhile",
    "StripeRefused",
    "TrialInCheckout",
    "TrialUsed",
]


class PlanRunning(Problem):
    """The mandate is on that plan already."""

    status = 409
    code = "PLAN_RUNNING"
    title = "Plan already running"
    texts = both("This plan is running already.", "Dieser Plan läuft bereits.")


class OtherPlanRunning(Problem):
    """The mandate is on a plan that does not end for another."""

    status = 409
    code = "OTHER_PLAN_RUNNING"
    title = "Another plan is running"
    texts = both(
        "Another plan is running; it has to end before this one can start.",
        "Ein anderer Plan läuft; er muss enden, bevor dieser beginnen kann.",
    )


class StartedMeanwhile(Problem):
    """Another start for the same mandate came first."""

    status = 409
    code = "STARTED_MEANWHILE"
    title = "Plan started meanwhile"
    texts = both(
        "A plan was started for this mandate at the same moment.",
        "Für diesen Mandanten wurde im selben Moment ein Plan begonnen.",
    )


class TrialUsed(Problem):
    """The person or the mandate had a trial before."""

    status = 409
    code = "TRIAL_USED"
    title = "Trial already used"
    texts = both("A trial can be started only once.", "Eine Testphase kann nur einmal begonnen werden.")


class TrialInCheckout(Problem):
    """A checkout is open in which a trial would begin."""

    status = 409
    code = "TRIAL_IN_CHECKOUT"
    title = "Trial in an open checkout"
    texts = both(
        "A checkout with a trial is open; complete it, or cancel it to start this trial.",
        "Ein Bezahlvorgang mit einer Testphase ist offen; bitte abschliessen, oder für diese Testphase abbrechen.",
    )


class PlanTooSmall(Problem):
    """The mandate has more members or feature instances than the plan allows."""

    status = 409
    code = "PLAN_TOO_SMALL"
    title = "Plan too small"
    texts = both(
        "This plan is too small for what the mandate uses: {members} members, {instances} feature instances.",
        "Dieser Plan ist zu klein für diesen Mandanten: {members} Mitglieder, {instances} Feature-Instanzen.",
    )

    def __init__(self, members: int, instances: int) -> None:
        super().__init__(members=str(members), instances=str(instances))


class ReturnUrlNotAllowed(Problem):
    """The return URL is missing, or leads somewhere the operator did not name."""

    status = 400
    code = "RETURN_URL_NOT_ALLOWED"
    title = "Return URL not allowed"
    texts = both(
        "The return URL must be an absolute address of this platform.",
        "Die Rücksprungadresse muss eine vollständige Adresse dieser Plattform sein.",
    )

    def __init__(self) -> None:
        fault = both("an absolute address of this platform is expected", "eine Adresse dieser Plattform wird erwartet")
        super().__init__(errors=[FieldFault("returnUrl", fault)])


class CheckoutRefused(Problem):
    """Stripe refuses a checkout of this plan."""

    status = 402
    code = "CHECKOUT_REFUSED"
    title = "Checkout refused"
    texts = both(
        "The payment provider does not open a checkout for this plan.",
        "Der Zahlungsanbieter eröffnet für diesen Plan keinen Bezahlvorgang.",
    )


class CheckoutUnavailable(Unavailable):
    """No checkout was opened in time, and none will be until it is asked for again."""


class CheckoutEnded(Problem):
    """The checkout that this Idempotency-Key began is over."""

    status = 409
    code = "CHECKOUT_ENDED"
    title = "Checkout ended"
    texts = both(
        "This checkout is over; start a new one, with a new Idempotency-Key.",
        "Dieser Bezahlvorgang ist beendet; bitte einen neuen beginnen, mit einem neuen Idempotency-Key.",
    )


class NoSubscription(Problem):
    """The mandate has nothing that could be cancelled or resumed."""

    status = 409
    code = "NO_SUBSCRIPTION"
    title = "No subscription"
    texts = both("This mandate has no running subscription.", "Dieser Mandant hat kein laufendes Abonnement.")


class NotResumable(Problem):
    """What runs ends by itself, or has ended."""

    status = 409
    code = "NOT_RESUMABLE"
    title = "Not resumable"
    texts = both(
        "This subscription cannot be resumed; start a plan instead.",
        "Dieses Abonnement kann nicht fortgesetzt werden; bitte einen Plan beginnen.",
    )


class PlanScheduled(Problem):
    """Another plan follows what runs."""

    status = 409
    code = "PLAN_SCHEDULED"
    title = "Another plan is scheduled"
    texts = both(
        "Another plan is scheduled to follow; cancel first, then resume.",
        "Ein anderer Plan ist als Nachfolger vorgemerkt; bitte zuerst kündigen, dann fortsetzen.",
    )


class StripeRefused(Problem):
    """Stripe refuses to change the end of the subscription."""

    status = 409
    code = "STRIPE_REFUSED"
    title = "Refused by the payment provider"
    texts = both(
        "The payment provider refuses this change of the subscription.",
        "Der Zahlungsanbieter lehnt diese Änderung des Abonnements ab.",
    )

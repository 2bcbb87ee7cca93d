"""Why a plan cannot start now."""

from services.chassis.problems import Problem
from services.chassis.validation import both

__all__ = [
    "OtherPlanRunning",
    "PlanNeedsCheckout",
    "PlanRunning",
    "StartedMeanwhile",
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


class PlanNeedsCheckout(Problem):
    """The plan is paid through a checkout."""

    status = 409
    code = "PLAN_NEEDS_CHECKOUT"
    title = "Plan needs a checkout"
    texts = both(
        "This plan needs a payment method and cannot be started without a checkout.",
        "Dieser Plan braucht ein Zahlungsmittel und kann nicht ohne Bezahlvorgang beginnen.",
    )

"""The steps of a round: each does something, waits until it has come about everywhere, and says so in words."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from deploy.simulator.scenario.cast import Cast
from deploy.simulator.scenario.payers import OTHER_CARD
from deploy.simulator.scenario.world import World
from deploy.simulator.seed import make_tenants
from deploy.simulator.tenants import TENANTS, Tenant
from deploy.simulator.watch.standings import day_in_words

__all__ = ["Round", "Told"]

_PLAN, _TRIAL = "STARTER", "TRIAL_7D"
_FEATURES = ("chat", "automation")
_RECHARGE, _TOP_UP, _REFUND = Decimal(20), Decimal(50), Decimal(15)
# What is left when a balance has been spent down: below the warning threshold, a tenth of it after its last credit.
_LEFT = Decimal("0.50")
_MONTHLY_USE = Decimal(72)
_TRIAL_OVER_DAYS, _MONTH_OVER_DAYS = 8, 25


class Told(NamedTuple):
    """What has happened, to whom: the label of a tenant, or nobody's alone."""

    who: str
    text: str


Step = Callable[[], Awaitable[Told | None]]


class Round:
    """One round with its cast. A step that has nothing to tell gives None."""

    def __init__(self, world: World, cast: Cast) -> None:
        self._world = world
        self._cast = cast
        self._top_up_page = ""

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in their order."""
        return (
            self.new_tenants,
            self.subscription_paid,
            self.trial_begun,
            self.features_activated,
            self.card_saved,
            self.recharged,
            self.recharge_declined,
            self.credit_used_up,
            self.paid_with_another_card,
            self.recharged_with_it,
            self.used_on_credit,
            self.trial_over,
            self.plan_after_trial,
            self.plans_of_demo_tenants,
            self.plan_renewed,
            self.invoice_paid,
            self.refunded,
            self.cancelled,
        )

    async def new_tenants(self) -> Told:
        """Three tenants that the directory, billing and subscriptions know."""
        await make_tenants(self._world.platform, self._cast.tenants)
        for tenant in self._cast.tenants:
            look = partial(self._world.knows, f"/api/subscriptions/{tenant.id}")
            await self._world.happens(f"subscriptions learns of {tenant.label}", look)
        return Told("", "new customers: " + ", ".join(tenant.label for tenant in self._cast.tenants))

    async def subscription_paid(self) -> Told:
        """A plan, paid by card on Stripe's page, with its budget."""
        tenant = self._cast.subscriber
        price = await self._buy_plan(tenant)
        balance = await self._world.balance(tenant)
        return Told(tenant.label, f"subscribed to Starter and paid {_chf(price)} by card; {_chf(balance)} to spend")

    async def trial_begun(self) -> Told:
        """A trial, with its budget."""
        tenant = self._cast.trial
        await self._world.change_as_admin(tenant, f"/api/subscriptions/{tenant.id}", {"planKey": _TRIAL})
        await self._is(tenant, "TRIALING")
        await self._world.happens(f"{tenant.label} gets the budget of its trial", lambda: self._has_credit(tenant))
        return Told(tenant.label, f"began a trial of 7 days; {_chf(await self._world.balance(tenant))} to spend")

    async def features_activated(self) -> Told:
        """Features from the store, which Stripe charges by the instance."""
        tenant = self._cast.subscriber
        for feature in _FEATURES:
            body = {"featureCode": feature, "mandateId": tenant.id}
            await self._world.change_as_admin(tenant, "/api/store/activate", body)

        async def are_charged() -> bool:
            quantities = (await self._world.subscription(tenant))["quantities"]
            return bool(quantities["featureInstances"] == len(_FEATURES))

        await self._world.happens(f"the features of {tenant.label} are charged", are_charged)
        return Told(tenant.label, f"activated {' and '.join(_FEATURES)} in the store; its card pays for them at once")

    async def card_saved(self) -> Told:
        """A card for recharges, which are turned on."""
        tenant = self._cast.subscriber
        settings = {"autoRechargeEnabled": True, "rechargeAmountCHF": int(_RECHARGE), "rechargeMaxPerMonth": 10}
        await self._world.change_settings(tenant, settings)
        await self._world.checkout(tenant, f"/api/payments/setup/{tenant.id}")
        return Told(tenant.label, f"saved a card: {_chf(_RECHARGE)} are charged to it whenever credit is low")

    async def recharged(self) -> Told:
        """Credit runs low, and the saved card is charged."""
        tenant = self._cast.subscriber
        spent = await self._spend_down(tenant)
        await self._paid_in(tenant, "is recharged")
        return Told(tenant.label, f"spent {_chf(spent)}, was low, and was recharged automatically: {_chf(_RECHARGE)}")

    async def recharge_declined(self) -> Told:
        """Credit runs low again, and the bank refuses."""
        tenant, payers = self._cast.subscriber, self._world.payers
        before = await payers.declined(tenant.id)
        await payers.decline_from_now_on(tenant.id)
        spent = await self._spend_down(tenant)

        async def is_declined() -> bool:
            return await payers.declined(tenant.id) > before

        await self._world.happens(f"the card of {tenant.label} is declined", is_declined)
        return Told(tenant.label, f"spent {_chf(spent)}; its card was DECLINED, so there is no recharge")

    async def credit_used_up(self) -> Told:
        """Nothing is left, and the next call may not be made."""
        tenant = self._cast.subscriber
        await self._world.use(tenant, await self._world.balance(tenant) + Decimal("0.10"))
        await self._is_refused(tenant, "INSUFFICIENT_BALANCE")
        return Told(tenant.label, "has used up its credit: its people's AI calls are refused")

    async def paid_with_another_card(self) -> Told:
        """A top-up with another card, which is kept."""
        tenant = self._cast.subscriber
        self._top_up_page = await self._world.checkout(
            tenant,
            f"/api/billing/checkout/create/{tenant.id}",
            OTHER_CARD,
            amount=int(_TOP_UP),
            savePaymentMethod=True,
        )
        await self._may_go_on(tenant)
        return Told(tenant.label, f"paid {_chf(_TOP_UP)} with another card, and works again")

    async def recharged_with_it(self) -> Told:
        """Credit runs low once more, and the other card is charged."""
        tenant = self._cast.subscriber
        spent = await self._spend_down(tenant)
        await self._paid_in(tenant, "is recharged with the other card")
        return Told(tenant.label, f"spent {_chf(spent)}, and was recharged with the new card: {_chf(_RECHARGE)}")

    async def used_on_credit(self) -> Told:
        """Usage that is paid for by the month."""
        tenant = self._cast.invoiced
        await self._world.use(tenant, _MONTHLY_USE)

        async def is_charged() -> bool:
            # Each call is rounded, so a rappen may be missing.
            return await self._world.balance(tenant) < Decimal("0.01") - _MONTHLY_USE

        await self._world.happens(f"the usage of {tenant.label} is charged", is_charged)
        return Told(tenant.label, f"used {_chf(_MONTHLY_USE)} on credit; it gets an invoice by the month")

    async def trial_over(self) -> Told:
        """The time goes on, and a trial ends by it."""
        tenant = self._cast.trial
        await self._world.let_pass(_TRIAL_OVER_DAYS)
        await self._is(tenant, "EXPIRED")
        await self._is_refused(tenant, "NO_ACTIVE_SUBSCRIPTION")
        return Told(tenant.label, f"{_TRIAL_OVER_DAYS} days later its trial is over, and calls are refused")

    async def plan_after_trial(self) -> Told:
        """The tenant of the trial gets a paid plan."""
        tenant = self._cast.trial
        price = await self._buy_plan(tenant)
        await self._may_go_on(tenant)
        return Told(tenant.label, f"subscribed to Starter for {_chf(price)}, and works again")

    async def plans_of_demo_tenants(self) -> Told | None:
        """Demo tenants whose trial has ended by the moved time get a plan too, so that their usage goes on."""
        for tenant in TENANTS:
            if tenant.plan is not None and (await self._world.subscription(tenant))["status"] == "EXPIRED":
                price = await self._buy_plan(tenant)
                return Told(tenant.label, f"its trial is over too; subscribed to Starter for {_chf(price)}")
        return None

    async def plan_renewed(self) -> Told:
        """A month is over: Stripe charges the next one, and there is a new budget."""
        tenant = self._cast.subscriber
        before = await self._budgets(tenant)
        await self._world.let_pass(_MONTH_OVER_DAYS)

        async def is_renewed() -> bool:
            return await self._budgets(tenant) > before

        await self._world.happens(f"{tenant.label} gets the budget of its next month", is_renewed)
        end = day_in_words((await self._world.subscription(tenant))["currentPeriodEnd"])
        return Told(tenant.label, f"{_MONTH_OVER_DAYS} days later Starter is renewed to {end}, with a new budget")

    async def invoice_paid(self) -> Told:
        """The invoice of the month is paid on Stripe's page."""
        tenant, world = self._cast.invoiced, self._world
        invoice = (await world.happens(f"{tenant.label} gets an invoice", lambda: world.invoices(tenant)))[0]
        page = await world.happens(
            f"invoice {invoice['number']} can be paid", lambda: world.payers.invoice_page(tenant.id, invoice["id"])
        )
        await world.payers.pay(page)

        async def is_paid() -> bool:
            return any(each["state"] == "PAID" for each in await world.invoices(tenant))

        await world.happens(f"invoice {invoice['number']} is paid", is_paid)
        total = Decimal(invoice["total"]["amount"])
        return Told(tenant.label, f"paid invoice {invoice['number']} of {_chf(total)} by card")

    async def refunded(self) -> Told:
        """A part of the top-up goes back, and the credit with it."""
        tenant = self._cast.subscriber
        await self._world.payers.refund(self._top_up_page, _REFUND)

        async def is_taken_back() -> bool:
            rows = await self._world.movements(tenant, "PAYMENT")
            return any(row["amount"] == -_REFUND for row in rows)

        await self._world.happens(f"the refund of {tenant.label} is taken from its credit", is_taken_back)
        return Told(tenant.label, f"got {_chf(_REFUND)} of its payment back; its credit is lower by that")

    async def cancelled(self) -> Told:
        """Plans are cancelled, and run to the end of their period."""
        for tenant in (self._cast.trial, self._cast.subscriber):
            await self._world.change_as_admin(tenant, f"/api/subscriptions/{tenant.id}/cancel")
            await self._is(tenant, "CANCELED")
        end = day_in_words((await self._world.subscription(self._cast.subscriber))["currentPeriodEnd"])
        return Told(self._cast.subscriber.label, f"cancelled its plan, which ends on {end}")

    async def _buy_plan(self, tenant: Tenant) -> Decimal:
        """Start the plan and pay its page; gives what was asked for there, in CHF."""
        before = await self._budgets(tenant)
        page = await self._world.checkout(tenant, f"/api/subscriptions/{tenant.id}", planKey=_PLAN)
        await self._is(tenant, "ACTIVE")

        async def has_budget() -> bool:
            return await self._budgets(tenant) > before

        await self._world.happens(f"{tenant.label} gets the budget of its plan", has_budget)
        return await self._world.payers.price_of(page)

    async def _spend_down(self, tenant: Tenant) -> Decimal:
        """Let a tenant use what it has but for a little; gives how much that is, in CHF."""
        spent = (await self._world.balance(tenant) - _LEFT).quantize(Decimal("0.01"))
        await self._world.use(tenant, spent)
        return spent

    async def _paid_in(self, tenant: Tenant, what: str) -> None:
        """Return when a recharge has been credited upon what is left."""

        async def is_credited() -> bool:
            return _RECHARGE < await self._world.balance(tenant) < _RECHARGE + 2 * _LEFT

        await self._world.happens(f"{tenant.label} {what}", is_credited)

    async def _budgets(self, tenant: Tenant) -> int:
        rows = await self._world.movements(tenant, "SUBSCRIPTION")
        return sum(row["transactionType"] == "CREDIT" for row in rows)

    async def _has_credit(self, tenant: Tenant) -> bool:
        return await self._world.balance(tenant) > 0

    async def _is(self, tenant: Tenant, status: str) -> None:
        async def is_so() -> bool:
            return bool((await self._world.subscription(tenant))["status"] == status)

        await self._world.happens(f"the subscription of {tenant.label} is {status}", is_so)

    async def _is_refused(self, tenant: Tenant, reason: str) -> None:
        async def is_so() -> bool:
            return await self._world.refusal(tenant) == reason

        await self._world.happens(f"{tenant.label} is refused because of {reason}", is_so)

    async def _may_go_on(self, tenant: Tenant) -> None:
        async def is_so() -> bool:
            return await self._world.refusal(tenant) is None

        await self._world.happens(f"{tenant.label} may make calls again", is_so)


def _chf(amount: Decimal) -> str:
    return f"CHF {amount:,.2f}"

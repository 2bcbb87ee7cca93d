"""What happens in the feature store, for mails and the live feed."""

from typing import Literal

from rappen_contracts.types import Contract, Identifier, Name, NonNegativeMoney, Text, Timestamp

__all__ = ["FeatureActivated"]


class FeatureActivated(Contract):
    """A feature instance that was activated by `user_id`; `price` is that of one instance and period, null where it
    costs nothing."""

    mandate_id: Identifier
    instance_id: Identifier
    feature_code: Name
    label_de: Name
    label_en: Name
    user_id: Identifier
    price: NonNegativeMoney | None = None
    billing_period: Literal["month", "year"] | None = None
    activated_at: Timestamp
    cause: Text

"""Usage objects of AI providers to usage events with disjoint kinds of tokens: pure functions, without any SDK.

One module for each provider, one function for each of its endpoints. A function takes the answer as the SDK or the JSON
parser gave it (or its usage object alone), fields of the event as keywords, and gives the events of the answer: usually
one, several where it bills several calls, none where nothing was used yet. See contracts/README.md.
"""

from rappen_contracts.adapters.building import EventFields, event_ids

__all__ = ["EventFields", "event_ids"]

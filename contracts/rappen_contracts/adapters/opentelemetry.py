"""OpenTelemetry: the attributes of a GenAI span (semantic conventions 1.37 to 1.40 and the names that came before).

Which number contains which (registry of `gen_ai` attributes):

- `gen_ai.usage.input_tokens` contains `gen_ai.usage.cache_read.input_tokens` and
  `gen_ai.usage.cache_creation.input_tokens` ("SHOULD be included"), for every provider.
- `gen_ai.usage.output_tokens` contains `gen_ai.usage.reasoning.output_tokens`.
- Some instrumentations of Anthropic and Bedrock pass on that provider's own input count, without the cache. Say so with
  `cache_beside_input=True`. Where the parts are more than the whole this is noticed (TOTAL_MISMATCH); else it cannot.
- Spans of agents, workflows and tools repeat what the calls below them used; only spans of calls are read.
- The spans of `xai-sdk` have their reasoning beside the output, which their `gen_ai.usage.total_tokens` tells.
- There is no standard name for the lifetime of what was written to a cache: it is taken for the shortest.
"""

from __future__ import annotations

from typing import Final, Unpack

from rappen_contracts.adapters.building import Call, EventFields, build, served_tier
from rappen_contracts.adapters.openai_style import chat_tokens
from rappen_contracts.adapters.reading import Part
from rappen_contracts.usage.v1 import UsageRecorded

__all__ = ["span"]

_USAGE = "gen_ai.usage."
_INPUT = (f"{_USAGE}input_tokens", f"{_USAGE}prompt_tokens")
_OUTPUT = (f"{_USAGE}output_tokens", f"{_USAGE}completion_tokens")
_READ = (
    f"{_USAGE}cache_read.input_tokens",
    f"{_USAGE}cache_read_input_tokens",
    f"{_USAGE}input_tokens.cached",
    f"{_USAGE}cached_prompt_text_tokens",
)
_WRITTEN = (
    f"{_USAGE}cache_creation.input_tokens",
    f"{_USAGE}cache_creation_input_tokens",
    f"{_USAGE}input_tokens.cache_write",
)
_REASONING = (
    f"{_USAGE}reasoning.output_tokens",
    f"{_USAGE}output_tokens.reasoning",
    f"{_USAGE}reasoning_tokens",
)
_TOTAL = (f"{_USAGE}total_tokens",)
_TIER = ("openai.response.service_tier", "gen_ai.openai.response.service_tier")
_SUMS = frozenset({"invoke_agent", "create_agent", "invoke_workflow", "execute_tool", "plan"})
# The provider as price lists and other events name it.
_PROVIDERS: Final = {
    "gcp.gemini": "google",
    "gcp.gen_ai": "google",
    "gemini": "google",
    "gcp.vertex_ai": "vertex_ai",
    "aws.bedrock": "bedrock",
    "az.ai.openai": "azure",
    "azure.ai.openai": "azure",
    "az.ai.inference": "azure_ai",
    "azure.ai.inference": "azure_ai",
    "ibm.watsonx.ai": "watsonx",
    "mistral_ai": "mistral",
    "x_ai": "xai",
}


def span(answer: object, *, cache_beside_input: bool = False, **fields: Unpack[EventFields]) -> list[UsageRecorded]:
    """The usage events of a span that has ended, or of its attributes alone; nothing where it is no call of a model."""
    given = Part(answer)
    attributes = given.part("attributes") if given.has("attributes") else given
    if attributes.text("gen_ai.operation.name") in _SUMS or not attributes.has(*_INPUT, *_OUTPUT):
        return []
    read, written = attributes.count(*_READ), attributes.count(*_WRITTEN)
    prompt = attributes.count(*_INPUT) + (read + written if cache_beside_input else 0)
    counted = {
        "prompt_tokens": prompt,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": written},
        "completion_tokens": attributes.count(*_OUTPUT),
        "completion_tokens_details": {"reasoning_tokens": attributes.count(*_REASONING)},
        "total_tokens": attributes.given(*_TOTAL),
    }
    name = (attributes.text("gen_ai.provider.name", "gen_ai.system") or "").lower()
    return build(
        _PROVIDERS.get(name, name) or None,
        [Call(chat_tokens(Part(counted, "gen_ai.usage")), service_tier=served_tier(attributes.text(*_TIER)))],
        fields,
        model=attributes.text("gen_ai.response.model", "gen_ai.request.model"),
        response_id=attributes.text("gen_ai.response.id"),
    )

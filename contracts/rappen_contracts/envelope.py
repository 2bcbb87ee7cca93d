"""The parts of an envelope that need more than a simple check: content type, source, and the data of structured
mode."""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from rappen_contracts.errors import ContractError
from rappen_contracts.json_text import parse_json

__all__ = ["JSON", "checked_source", "media_type", "structured_data"]

JSON: Final = "application/json"

# Media types whose text is JSON; parameters were cut off before.
_JSON_TYPE = re.compile(r"[a-z0-9!#$&^_.+-]+/(?:json|[a-z0-9!#$&^_.+-]+\+json)", re.ASCII)
# RFC 3986, URI-reference: scheme, authority with an IPv6 address or a name, path, query and fragment. Without scheme
# and authority the first segment of a path has no colon.
_URI_REFERENCE = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:)?"
    r"(?://(?:(?:[a-z0-9._~!$&'()*+,;=:-]|%[0-9a-f]{2})*@)?"
    r"(?:\[[0-9a-fv.:]+\]|(?:[a-z0-9._~!$&'()*+,;=-]|%[0-9a-f]{2})*)(?::[0-9]*)?(?=[/?#]|\Z)|(?!//))"
    r"(?:[a-z0-9._~!$&'()*+,;=:@/-]|%[0-9a-f]{2})*"
    r"(?:\?(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?"
    r"(?:#(?:[a-z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-f]{2})*)?",
    re.ASCII | re.IGNORECASE,
)
_NO_SCHEME = re.compile(r"(?![a-z][a-z0-9+.-]*:)[^/?#]*:", re.ASCII | re.IGNORECASE)
_SOURCE_LENGTH_MAX = 1024


def media_type(content_type: str) -> str:
    """The media type without its parameters, in lower case; only JSON is read."""
    essence = content_type.partition(";")[0].strip(" \t").lower()
    if not _JSON_TYPE.fullmatch(essence):
        raise ContractError("BAD_CONTENT_TYPE", f"the content type is {JSON} or another kind of JSON")
    return essence


def structured_data(payload: Mapping[str, object]) -> object:
    """`data`, or what `data_base64` holds as JSON; `data: null` is there, a null of the other two is not."""
    content_type, encoded = payload.get("datacontenttype"), payload.get("data_base64")
    if content_type is not None and not isinstance(content_type, str):
        raise ContractError("BAD_ATTRIBUTE", "datacontenttype is a string")
    if content_type:
        media_type(content_type)
    if encoded is None:
        if "data" not in payload:
            raise ContractError("MISSING_FIELD", "data is required")
        return payload["data"]
    if "data" in payload:
        raise ContractError("DATA_TWICE", "data and data_base64 exclude each other")
    if not isinstance(encoded, str):
        raise ContractError("BAD_ATTRIBUTE", "data_base64 is a string")
    try:
        value = b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ContractError("BAD_BASE64", "data_base64 is not base64 with padding (RFC 4648, section 4)") from None
    if not value:
        raise ContractError("EMPTY", "data_base64 holds nothing")
    return parse_json(value)


@lru_cache(maxsize=512)
def checked_source(source: str) -> str:
    """Checks `ce_source` as a URI reference; cached, because publishers are few and the check is slow."""
    if not 1 <= len(source) <= _SOURCE_LENGTH_MAX or not _URI_REFERENCE.fullmatch(source) or _NO_SCHEME.match(source):
        raise ContractError("BAD_SOURCE", "source is a URI reference (RFC 3986) of 1 to 1024 characters")
    return source

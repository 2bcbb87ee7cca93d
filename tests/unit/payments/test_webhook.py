"""The signature of a delivery, and what is read of an event."""

import hmac
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
import stripe

from services.payments.inbox.domain import UnreadableEvent, WrongSignature, parse_event, verify_signature

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD, NEW = "whsec_old", "whsec_new"
BODY = b'{"id": "evt_1"}'


def signature(secret: str, *, body: bytes = BODY, at: datetime = NOW) -> str:
    return str(stripe.WebhookSignature.generate_signature_header(body.decode(), secret, timestamp=int(at.timestamp())))


@pytest.mark.parametrize("secret", [OLD, NEW])
def test_either_secret_is_good_while_one_replaces_the_other(secret: str) -> None:
    verify_signature(BODY, signature(secret), secrets=[OLD, NEW], now=NOW)


def test_one_good_signature_among_several_is_enough() -> None:
    header = signature("whsec_unknown") + "," + signature(NEW).split(",")[1] + ",v0=00"
    verify_signature(BODY, header, secrets=[NEW], now=NOW)


@pytest.mark.parametrize("age_s", [-60, 0, 300])
def test_the_tolerance_includes_its_ends(age_s: int) -> None:
    verify_signature(BODY, signature(NEW, at=NOW - timedelta(seconds=age_s)), secrets=[NEW], now=NOW)


@pytest.mark.parametrize(("age_s", "reason"), [(301, "old"), (-61, "future")])
def test_a_signature_out_of_time_is_refused(age_s: int, reason: str) -> None:
    with pytest.raises(WrongSignature) as refused:
        verify_signature(BODY, signature(NEW, at=NOW - timedelta(seconds=age_s)), secrets=[NEW], now=NOW)
    assert refused.value.reason == reason


def test_a_changed_byte_another_secret_and_a_changed_time_are_refused() -> None:
    good = signature(NEW)
    for body, header, secret in (
        (BODY.replace(b"1", b"2"), good, NEW),
        (BODY, good, OLD),
        (BODY, good.replace(f"t={int(NOW.timestamp())}", f"t={int(NOW.timestamp()) + 1}"), NEW),
        (BODY, good.replace("v1=", "v0="), NEW),
    ):
        with pytest.raises(WrongSignature) as refused:
            verify_signature(body, header, secrets=[secret], now=NOW)
        assert refused.value.reason == "signature"


@pytest.mark.parametrize(
    "header", [None, "", "v1=00", "t=,v1=00", "t=1_0,v1=00", "t=1,t=2,v1=00", "t=٣,v1=00", "t=-1", "x"]
)
def test_a_malformed_header_is_refused(header: str | None) -> None:
    with pytest.raises(WrongSignature) as refused:
        verify_signature(BODY, header, secrets=[NEW], now=NOW)
    assert refused.value.reason == "header"


def test_bytes_that_are_no_text_are_compared_as_they_are() -> None:
    body = b"\xff\x00"
    timestamp = int(NOW.timestamp())
    digest = hmac.new(NEW.encode(), f"{timestamp}.".encode() + body, sha256).hexdigest()
    verify_signature(body, f"t={timestamp},v1={digest}", secrets=[NEW], now=NOW)


def test_a_signature_with_odd_characters_is_refused_and_raises_nothing_else() -> None:
    with pytest.raises(WrongSignature):
        verify_signature(BODY, f"t={int(NOW.timestamp())},v1=é", secrets=[NEW], now=NOW)


def test_a_snapshot_event_names_its_object() -> None:
    event = parse_event(
        json.dumps(
            {
                "id": "evt_1",
                "object": "event",
                "type": "checkout.session.completed",
                "api_version": "2026-10-28.endive",
                "livemode": False,
                "data": {"object": {"id": "cs_test_1", "object": "checkout.session"}},
            }
        ).encode()
    )
    assert (event.id, event.type, event.livemode) == ("evt_1", "checkout.session.completed", False)
    assert (event.object_type, event.object_id, event.api_version) == (
        "checkout.session",
        "cs_test_1",
        "2026-10-28.endive",
    )


def test_a_thin_event_names_its_object_too() -> None:
    event = parse_event(
        b'{"id":"evt_2","object":"v2.core.event","type":"v1.invoice.paid","livemode":true,'
        b'"related_object":{"id":"in_1","type":"invoice","url":"/v1/invoices/in_1"}}'
    )
    assert (event.object_type, event.object_id, event.livemode) == ("invoice", "in_1", True)


@pytest.mark.parametrize(
    "data", [{}, {"data": None}, {"data": {"object": {"object": "invoice"}}}, {"data": {"object": {"id": "a\x00b"}}}]
)
def test_an_object_without_a_usable_id_is_no_fault(data: dict[str, object]) -> None:
    event = parse_event(json.dumps({"id": "evt_3", "type": "invoice.upcoming", "livemode": False, **data}).encode())
    assert event.object_id is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"[]",
        b'"evt"',
        b"{}",
        b'{"id":"evt_1","type":"x"}',
        b'{"id":"evt_1","livemode":false}',
        b'{"id":1,"type":"x","livemode":false}',
        b'{"id":"evt_1","type":"x","livemode":"false"}',
        b'{"id":"evt_\\u0000","type":"x","livemode":false}',
        b'{"id":"evt_1","type":"","livemode":false}',
    ],
)
def test_what_is_no_event_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        parse_event(body)

"""Where payers may be sent back to."""

from urllib.parse import parse_qsl, urlsplit

import pytest

from services.chassis.return_url import Marks, ReturnOrigins, origin_of, return_urls

ORIGINS = ("https://app.example.ch", "http://localhost:5173")
MARKS = Marks(success="success", session_id="session_id", canceled="canceled")


def test_own_query_and_fragment_stay_and_the_placeholder_is_not_escaped() -> None:
    urls = return_urls("https://app.example.ch/billing?tab=top%20up&a=1&a=2#/here?x=1", origins=ORIGINS, marks=MARKS)
    assert urls is not None
    assert urls.success == (
        "https://app.example.ch/billing?tab=top%20up&a=1&a=2&success=true&session_id={CHECKOUT_SESSION_ID}#/here?x=1"
    )
    assert urls.cancel == "https://app.example.ch/billing?tab=top%20up&a=1&a=2&canceled=true#/here?x=1"


def test_marks_of_an_earlier_attempt_are_replaced() -> None:
    url = "https://app.example.ch/b?success=true&keep=1&session_id=cs_test_old&canceled=true&%73uccess=true"
    urls = return_urls(url, origins=ORIGINS, marks=MARKS)
    assert urls is not None
    assert dict(parse_qsl(urlsplit(urls.success).query)) == {
        "keep": "1",
        "success": "true",
        "session_id": "{CHECKOUT_SESSION_ID}",
    }
    assert urlsplit(urls.cancel).query == "keep=1&canceled=true"


def test_the_names_are_the_operators() -> None:
    marks = Marks(success="ok", session_id="sid", canceled="no")
    urls = return_urls("http://localhost:5173", origins=ORIGINS, marks=marks)
    assert urls is not None
    assert urls.success == "http://localhost:5173/?ok=true&sid={CHECKOUT_SESSION_ID}"
    assert urls.cancel == "http://localhost:5173/?no=true"


@pytest.mark.parametrize("url", ["HTTPS://APP.example.CH:443/x", "https://app.example.ch:443/x"])
def test_another_spelling_of_an_allowed_origin_is_answered_in_its_own(url: str) -> None:
    urls = return_urls(url, origins=ORIGINS, marks=MARKS)
    assert urls is not None
    assert urls.cancel == "https://app.example.ch/x?canceled=true"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/billing",
        "billing",
        "//app.example.ch/x",
        "https:app.example.ch/x",
        "https:/app.example.ch/x",
        "https:///app.example.ch/x",
        "https://",
        "http://app.example.ch/x",
        "https://app.example.ch:8443/x",
        "https://app.example.ch:0/x",
        "https://app.example.ch:99999/x",
        "https://app.example.ch:4 43/x",
        "https://app.example.ch./x",
        "https://app.example.ch.evil.example/x",
        "https://evil.example/https://app.example.ch/x",
        "https://evil.example#https://app.example.ch",
        "https://evil-app.example.ch/x",
        "https://sub.app.example.ch/x",
        "https://app.example.ch@evil.example/x",
        "https://user@app.example.ch/x",
        "https://user:pw@app.example.ch/x",
        "https://@app.example.ch/x",
        "https://app.example.ch%2eevil.example/x",
        "https://app.example.ch%00.evil.example/x",
        "https://app.example.ch\\@evil.example/x",
        "https://evil.example\\app.example.ch/x",
        "https:\\\\app.example.ch/x",
        "https://app.example.ch/x\\y",
        "https://app.example.ch/x\r\nLocation: https://evil.example",
        "https://app.example.ch/\tx",
        "https://app.exa\nmple.ch/x",
        "https://app.example.ch/x\x00",
        " https://app.example.ch/x",
        "https://app.example.ch/x ",
        "https://\u0430pp.example.ch/x",
        "https://[::1]/x",
        "https://[app.example.ch]/x",
        "https://[app.example.ch/x",
        "javascript:alert(1)//https://app.example.ch",
        "data:text/html,x",
        "ftp://app.example.ch/x",
        "file:///etc/passwd",
        "https://app.example.ch/" + "x" * 2000,
    ],
)
def test_everything_that_leads_or_could_lead_elsewhere_is_refused(url: str) -> None:
    assert return_urls(url, origins=ORIGINS, marks=MARKS) is None


def test_without_configured_origins_nothing_is_allowed() -> None:
    assert return_urls("https://app.example.ch/x", origins=(), marks=MARKS) is None


LOOPBACK = ReturnOrigins(ORIGINS, loopback=True)


@pytest.mark.parametrize(
    "origin",
    ["http://localhost", "http://localhost:3000", "http://127.0.0.1", "http://127.0.0.1:65535", "HTTP://LocalHost:80"],
)
def test_in_development_every_page_of_this_machine_is_allowed(origin: str) -> None:
    urls = return_urls(f"{origin}/x", origins=LOOPBACK, marks=MARKS)
    assert urls is not None
    assert urls.cancel == f"{origin_of(origin)}/x?canceled=true"
    assert return_urls(f"{origin}/x", origins=ReturnOrigins(("https://app.example.ch",)), marks=MARKS) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost/x",
        "http://localhost.evil.example/x",
        "http://127.0.0.1.evil.example/x",
        "http://127.0.0.2/x",
        "http://localhost@evil.example/x",
        "http://evil.example/http://localhost",
        "http://[::1]/x",
    ],
)
def test_what_only_looks_like_this_machine_is_not_allowed(url: str) -> None:
    assert return_urls(url, origins=LOOPBACK, marks=MARKS) is None


def test_an_origin_has_one_spelling() -> None:
    assert origin_of("HTTP://LocalHost:80/") == "http://localhost"
    assert origin_of("https://app.example.ch:8443") == "https://app.example.ch:8443"
    assert origin_of("app.example.ch") is None

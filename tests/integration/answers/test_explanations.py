"""What a transaction came from, asked at the gateway by each kind of caller."""

from tests.integration.answers.conftest import Surface


async def test_a_transaction_is_explained_to_whoever_may_see_it(surface: Surface) -> None:
    root = surface.issuer.person("root", system_admin=True)
    body = {"amount": 2, "userId": "mia", "description": "For Mia"}
    credit = (await surface.http.post("/api/billing/admin/credit/m", json=body, headers=root)).json()
    path = f"/api/billing/transactions/{credit['id']}/explain"
    for person in (root, surface.issuer.person("chief")):
        answer = await surface.http.get(path, headers=person)
        assert answer.status_code == 200, answer.text
        assert (answer.json()["transaction"], answer.json()["amount"]) == (credit, "2.000000")
    # The administrator who made it is who the row is of, so it is not Mia's own.
    for person in (surface.issuer.person("mia"), surface.issuer.person("nobody")):
        answer = await surface.http.get(path, headers=person)
        assert (answer.status_code, answer.json()["code"]) == (404, "TRANSACTION_UNKNOWN")
    assert (await surface.http.get(path, headers=surface.issuer.service_account("usage:check"))).status_code == 403
    assert (await surface.http.get(path)).status_code == 401

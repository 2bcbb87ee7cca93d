"""What `rappen audit` prints of what fails."""

import pytest

from services.billing.audit import AuditCheck
from services.billing.commands import audit
from services.billing.settings import BillingSettings


def test_only_what_a_check_is_about_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def found(_: BillingSettings) -> list[AuditCheck]:
        failing = [
            {"mandateId": "acme-ag", "accountId": "7", "detail": "off by 1"},
            {"mandateId": "acme-ag", "accountId": None, "detail": "not kept"},
            {"mandateId": None, "accountId": None, "detail": "not read"},
        ]
        return [AuditCheck("rows", 3, len(failing), failing)]

    monkeypatch.setattr(audit, "_audit", found)
    assert audit.run(BillingSettings.model_construct(), []) == 1
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[1:]] == [
        "mandate acme-ag  account 7: off by 1",
        "mandate acme-ag: not kept",
        "not read",
        "3 failures",
    ]

"""The options of `rappen up` and `demo`: what no stack could run with is refused before anything is started."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from deploy.local.errors import StackError
from deploy.local.home import Home, write_json
from deploy.local.identity import Ports, load_identity
from deploy.local.plan import Options, Plan
from deploy.local.ports import free_port
from deploy.ops.stack import make_options


@pytest.mark.parametrize("given", [["gateway=8080", "kafka=8080"], ["gateway=8080", "gateway=8081"]])
def test_a_port_is_for_one_process_and_a_process_has_one(given: list[str]) -> None:
    with pytest.raises(StackError, match=f"--port {given[1]} contradicts gateway=8080"):
        make_options(workers=1, port=given)


@pytest.mark.parametrize(
    "origin",
    ["localhost:3000", "app.test", "https://app.test/", "https://app.test/billing", "https://*.app.test", "*", ""],
)
def test_what_no_browser_sends_as_its_origin_is_refused_with_an_example(origin: str) -> None:
    with pytest.raises(StackError, match=r"--frontend-origin .* as in https://app\.example\.com"):
        make_options(workers=1, port=None, frontend_origin=["https://good.test", origin])


def test_what_a_stack_can_run_with_is_taken() -> None:
    origins = ["https://app.test", "http://localhost:3000"]
    options = make_options(workers=1, port=["gateway=8080", "kafka=9092"], frontend_origin=origins)
    assert options.ports == {"gateway": 8080, "kafka": 9092}
    assert options.frontend_origins == tuple(origins)


def test_a_given_port_is_not_also_the_one_that_another_process_had_before(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.make()
    given = free_port()
    write_json(home.state / "ports.json", {"mail": given})
    ports = Ports(home, {"gateway": given})
    assert ports.of("mail") != given
    assert ports.of("gateway") == given


def plan_of(folder: Path, options: Options) -> Plan:
    home = Home(folder)
    home.make()
    return Plan(home, options, load_identity(home), httpx.AsyncClient(trust_env=False))


def test_several_gateways_have_one_port_and_each_its_own_health_and_name(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, make_options(workers=1, gateways=3, port=None))
    gateways = [spec for spec in plan.services if spec.name.startswith("gateway")]
    assert [spec.name for spec in gateways] == ["gateway", "gateway-2", "gateway-3"]
    assert {spec.port for spec in gateways} == {plan.addresses.gateway_port}
    assert len({spec.health for spec in gateways}) == 3
    for spec in gateways:
        assert f":{spec.environment['GATEWAY_INTERNAL_HTTP__PORT']}/" in spec.health
        assert spec.environment["GATEWAY_INSTANCE"] == spec.name
        assert spec.environment["GATEWAY_HTTP__SHARED"] == spec.environment["GATEWAY_RATE_LIMITS__SHARED"] == "true"


def test_one_gateway_shares_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, make_options(workers=1, port=None))
    (gateway,) = [spec for spec in plan.services if spec.name.startswith("gateway")]
    assert not {"GATEWAY_HTTP__SHARED", "GATEWAY_RATE_LIMITS__SHARED"} & gateway.environment.keys()


def test_a_further_gateway_has_no_port_of_its_own(tmp_path: Path) -> None:
    given = free_port()
    with pytest.raises(StackError, match="no process of the stack: gateway-2"):
        plan_of(tmp_path, make_options(workers=1, gateways=2, port=[f"gateway-2={given}"]))
    plan = plan_of(tmp_path, make_options(workers=1, gateways=2, port=[f"gateway={given}"]))
    assert plan.addresses.gateway_port == given

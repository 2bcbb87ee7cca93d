"""The service as a process whose time is moved: what is due by the new time happens at once, and callers stay known."""

import json
from datetime import datetime, timedelta
from pathlib import Path

import httpx

from rappen_contracts.directory.v1 import Mandate
from services.chassis.clock import system_clock
from tests.integration.subscriptions.harness import Service, changed, new_admin_of
from tests.support.callers import system_admin
from tests.support.events import new_mandate
from tests.support.processes import ServiceProcess
from tests.support.waiting import eventually

MONTH = timedelta(days=32)


async def test_a_trial_and_periods_that_are_over_by_the_moved_time_end_at_once(
    service: Service, tmp_path: Path
) -> None:
    trial, internal = new_mandate(), new_mandate()
    await service.publish_directory(internal, [(1, Mandate(id=internal))])
    clock_file = tmp_path / "clock.json"
    # By its interval alone the job would look again in an hour.
    more = {"SUBSCRIPTIONS_CLOCK_FILE": str(clock_file), "SUBSCRIPTIONS_CLOCK_INTERVAL_S": "3600"}
    process = ServiceProcess(service.servers, "subscriptions", "all", tmp_path / "all.log", more=more)
    callers = {trial: (new_admin_of(trial), "TRIAL_7D"), internal: (system_admin(), "INTERNAL")}
    async with process, httpx.AsyncClient(base_url=process.url) as client:
        for mandate_id, (caller, plan) in callers.items():
            path, headers = f"/api/subscriptions/{mandate_id}", service.headers(caller)
            answer = await client.post(path, headers=headers, json={"planKey": plan})
            assert answer.status_code == 200, answer.text
        assert await process.metric("rappen_clock_offset_seconds") == 0

        clock_file.write_text(json.dumps({"offset_s": int(MONTH.total_seconds())}))
        begun, ended = await service.billing.events(trial, 2)
        assert (changed(begun).to_state, changed(ended).to_state) == ("TRIALING", "EXPIRED")
        first, second = await service.billing.events(internal, 2)
        assert changed(second).period_start == changed(first).period_end
        assert await process.metric("rappen_clock_offset_seconds") == MONTH.total_seconds()

        async def reached() -> bool:
            at = await process.metric("rappen_job_clock_offset_seconds", job="period clock")
            return at == MONTH.total_seconds()

        await eventually(reached, what="the job has nothing left to do")
        # A caller's context lives a minute of real time.
        path, headers = f"/api/subscriptions/{trial}", service.headers(new_admin_of(trial))
        shown = await client.get(path, headers=headers)
        assert (shown.status_code, shown.json()["status"]) == (200, "EXPIRED")
        (row,) = await service.fetch(
            "SELECT recorded_at FROM transitions WHERE subscription_id = $1 AND version = 2",
            changed(ended).subscription_id,
        )
        recorded: datetime = row["recorded_at"]
        assert abs(recorded - system_clock() - MONTH) < timedelta(minutes=1)

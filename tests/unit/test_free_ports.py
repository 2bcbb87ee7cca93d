"""Ports that are chosen before anybody listens at them."""

import pytest

from deploy.local.ports import PART, free_port


def test_processes_with_parts_of_their_own_choose_different_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = []
    for part in ("0/3", "1/3", "2/3"):
        monkeypatch.setenv(PART, part)
        chosen.append([free_port() for _ in range(50)])
    assert max(chosen[0]) < min(chosen[1])
    assert max(chosen[1]) < min(chosen[2])


def test_one_process_chooses_no_port_twice() -> None:
    chosen = [free_port() for _ in range(300)]
    assert len(set(chosen)) == 300

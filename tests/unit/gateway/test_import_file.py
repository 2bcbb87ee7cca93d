"""Imports line by line: what is read, and what is said about the lines that are not."""

from __future__ import annotations

from pydantic import ValidationError

from services.chassis.validation import faults_of, summary
from services.gateway.directory.domain.entries import Mandate
from services.gateway.directory.domain.import_file import Fault, ImportFile
from services.gateway.directory.domain.import_file import read_import as read_file
from services.gateway.directory.domain.roles import RoleNames


def read_import(body: bytes) -> ImportFile:
    return read_file(body, RoleNames(("a", "admin", "b"), ("admin", "user")))


def test_entries_keep_their_line_and_empty_lines_count() -> None:
    file = read_import(b'\n{"kind": "mandate", "id": "a", "label": "A"}\r\n  \n{"kind": "user", "id": "a"}')
    assert [(line.number, line.kind.name) for line in file.lines] == [(2, "mandate"), (4, "user")]
    assert file.lines[0].entry == Mandate(id="a", label="A")
    assert file.faults == []


def test_each_fault_has_its_line_and_a_reason() -> None:
    file = read_import(
        b'{"kind": "mandate"}\n{"kind": "mandate", "id": "a"}\n{"kind": "mandate", "id": "a"}\n\xff\n7\n'
        b'{"kind": "user", "id": "b", "enabled": 1}\n{"kind": "user", "kind": "user", "id": "c"}'
    )
    assert [(fault.line, *_said(fault)) for fault in file.faults] == [
        (1, "id: is required", "id: fehlt"),
        (3, "the same entry as line 2", "derselbe Eintrag wie Zeile 2"),
        (4, "is not valid JSON", "ist kein gültiges JSON"),
        (5, "a JSON object is expected", "ein JSON-Objekt wird erwartet"),
        (6, "enabled: true or false is expected", "enabled: true oder false wird erwartet"),
        (7, "an object has a key twice", "ein Objekt hat einen Schlüssel zweimal"),
    ]


def _said(fault: Fault) -> tuple[str, str]:
    texts = summary(faults_of(fault.what)) if isinstance(fault.what, ValidationError) else fault.what
    return texts["en"], texts["de"]


def test_what_a_faulty_line_was_to_make_is_not_missed_by_others() -> None:
    file = read_import(b'{"kind": "user", "id": "b", "enabled": 1}')
    assert file.ids("user") == {"b"}
    assert file.of("user") == []


def test_roles_are_a_set_whatever_their_order() -> None:
    line = b'{"kind": "membership", "mandateId": "m", "userId": "u", "roles": %b}'
    first, second = (read_import(line % roles).lines[0].entry for roles in (b'["b", "a", "b"]', b'["a", "b"]'))
    assert first == second
    assert first.row()["roles"] == ["a", "b"]


def test_a_role_that_there_is_not_is_a_fault_of_its_line() -> None:
    file = read_import(
        b'{"kind": "membership", "mandateId": "m", "userId": "u", "roles": ["a", "bb"]}\n'
        b'{"kind": "feature_access", "instanceId": "i", "userId": "u", "roles": ["a"]}\n'
        b'{"kind": "provider_permissions", "mandateId": "m", "role": "c", "providers": []}'
    )
    assert [(fault.line, _said(fault)[0]) for fault in file.faults] == [
        (1, "roles.1: roles here are a, admin, b"),
        (2, "roles.0: roles here are admin, user"),
        (3, "role: roles here are a, admin, b"),
    ]


def test_administrators_of_a_feature_are_administrators_whatever_they_were_called() -> None:
    line = b'{"kind": "feature_access", "instanceId": "i", "userId": "u", "roles": ["chat-admin", "user"]}'
    assert read_import(line).lines[0].entry.row()["roles"] == ["admin", "user"]
    # Of a mandate only who is called so.
    line = b'{"kind": "membership", "mandateId": "m", "userId": "u", "roles": ["mandate-admin"]}'
    assert read_import(line).lines == []

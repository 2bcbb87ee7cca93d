"""Many entries at once, all or none, in a fixed number of statements whatever their number."""

import asyncio
from datetime import datetime
from typing import Any

from pydantic import ValidationError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.chassis.database import Database
from services.chassis.outbox import append_outbox
from services.chassis.validation import FieldFault, Texts, both, faults_of, summary
from services.gateway.directory import repository
from services.gateway.directory.domain.entries import KIND_BY_NAME, KINDS
from services.gateway.directory.domain.import_file import Fault, ImportFile, Line, read_import
from services.gateway.directory.domain.roles import RoleNames
from services.gateway.directory.errors import InstanceElsewhere, InvalidImport
from services.gateway.directory.publications import directory_changed

__all__ = ["import_directory"]


async def import_directory(
    database: Database, body: bytes, *, roles: RoleNames, cause: str, now: datetime
) -> tuple[int, int]:
    """Imports the lines; returns how many there were and how many entries changed, or refuses with every fault."""
    # Reading tens of thousands of lines takes a second, which other requests need not wait for.
    file = await asyncio.to_thread(read_import, body, roles)
    async with database.transaction() as connection:
        await repository.allow_long_answer(connection)
        instances = await _check_references(connection, file)
        if file.faults:
            raise _refusal(file.faults)
        changed = 0
        for kind in KINDS:
            rows = [_row(line, instances) for line in file.of(kind.name)]
            written = await repository.upsert(connection, kind, rows)
            events = await asyncio.to_thread(directory_changed, kind, written, cause=cause, now=now)
            await append_outbox(connection, events)
            changed += len(written)
    return len(file.lines), changed


async def _check_references(connection: AsyncConnection, file: ImportFile) -> dict[str, str]:
    """Notes every line that names what neither the file nor the directory has; gives the instances' mandates."""
    instance_lines = file.of("feature_instance")
    named = {line.entry.row()["id"] for line in instance_lines}
    named |= {line.entry.row()["instance_id"] for line in file.of("feature_access")}
    standing = await repository.instance_mandates(connection, named)
    for line in instance_lines:
        row = line.entry.row()
        if standing.get(row["id"], row["mandate_id"]) != row["mandate_id"]:
            file.refuse(line.number, InstanceElsewhere.texts)
    instances = {line.entry.row()["id"]: line.entry.row()["mandate_id"] for line in instance_lines} | standing
    for column, kind_name in (("mandate_id", "mandate"), ("user_id", "user")):
        lines = [line for line in file.lines if column in type(line.entry).model_fields]
        outside = {line.entry.row()[column] for line in lines} - file.ids(kind_name)
        unknown = await repository.missing(connection, KIND_BY_NAME[kind_name], outside)
        _refuse_unknown(file, lines, column, unknown)
    unknown_instances = named - instances.keys() - file.ids("feature_instance")
    _refuse_unknown(file, file.of("feature_access"), "instance_id", unknown_instances)
    return instances


def _refuse_unknown(file: ImportFile, lines: list[Line], column: str, unknown: set[str]) -> None:
    en, de = _NO_SUCH[column]
    for line in lines:
        id_ = line.entry.row()[column]
        if id_ in unknown:
            file.refuse(line.number, both(f"{en} {id_}", f"{de} {id_}"))


_NO_SUCH = {
    "mandate_id": ("there is no mandate", "es gibt kein Mandat"),
    "user_id": ("there is no user", "es gibt keine Person"),
    "instance_id": ("there is no feature instance", "es gibt keine Feature-Instanz"),
}


def _row(line: Line, instances: dict[str, str]) -> dict[str, Any]:
    row = line.entry.row()
    return {**row, "mandate_id": instances[row["instance_id"]]} if line.kind.name == "feature_access" else row


def _refusal(faults: list[Fault]) -> InvalidImport:
    ordered = sorted(faults, key=lambda fault: fault.line)
    errors = [FieldFault(f"line {fault.line}", _texts(fault)) for fault in ordered]
    return InvalidImport(errors=errors, count=len(errors), line=ordered[0].line)


def _texts(fault: Fault) -> Texts:
    return summary(faults_of(fault.what)) if isinstance(fault.what, ValidationError) else fault.what

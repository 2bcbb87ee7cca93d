"""The OpenAPI document of a service, printed, written beside its code, or compared with the committed file.

It is made from the routes alone, so it needs no database, no broker and no settings.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import orjson
from fastapi import FastAPI

from services.chassis.operations import service_document

__all__ = ["document_command", "document_file"]


def document_file(service: str) -> Path:
    """Where the document of a service is committed."""
    return Path(__file__).parents[1] / service / "openapi.json"


def document_command(service: str, application: Callable[[], FastAPI], arguments: Sequence[str]) -> int:
    """Runs `python -m services.<service> openapi`; returns the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m services.{service} openapi", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="write it to its file")
    what.add_argument("--check", action="store_true", help="fail when its file is another")
    given = parser.parse_args(arguments)
    text = _text(service_document(application()))
    file = document_file(service)
    if given.write:
        file.write_bytes(text)
    elif not given.check:
        sys.stdout.buffer.write(text)
    elif not file.is_file() or file.read_bytes() != text:
        print(f"{file} is not current: run `make generate`", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _text(document: object) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)

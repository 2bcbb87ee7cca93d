"""Answers of the control surface that are no success."""

from __future__ import annotations

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse


class ControlError(Exception):
    """An answer of the control surface that is not a success."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def answer_control_error(_request: Request, error: Exception) -> JSONResponse:
    """Answer 404 and 409."""
    status = error.status if isinstance(error, ControlError) else 500
    return JSONResponse({"error": {"message": str(error)}}, status)


async def answer_bad_body(_request: Request, error: Exception) -> JSONResponse:
    """Answer 422 and name each member that is wrong."""
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    message = "; ".join(f"{_place(problem['loc'])}: {problem['msg']}" for problem in problems)
    return JSONResponse({"error": {"message": message}}, 422)


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(step) for step in location[1:]) or "body"

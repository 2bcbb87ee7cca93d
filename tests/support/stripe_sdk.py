"""Stripe's API as the pinned SDK describes it, which is generated from Stripe's own OpenAPI description.

Its services say which operations there are, what they take and answer; its classes say what an object has. Where they
declare one of several words or any text, the words are Stripe's and the text is what a later version may add: of this
version only the words are right.
"""

import ast
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import stripe
from stripe import StripeObject
from stripe._object_classes import OBJECT_CLASSES

__all__ = ["Described", "ErrorObject", "Shapes", "described", "kind_of", "members", "operations", "words_of"]

ErrorObject: type = importlib.import_module("stripe._error_object").ErrorObject
_PACKAGE = Path(inspect.getfile(stripe)).parent
# What the classes of lists and of results of a search, which are not generated, use without declaring it.
_PAGE = {"object": str, "url": str, "next_page": str | None, "total_count": int | None}
_REQUESTS = {"_request", "_request_stream"}


@dataclass(frozen=True)
class Described:
    """An operation of Stripe's API: the type of its parameters, and that of its answer."""

    params: type
    answer: Any


@dataclass(frozen=True)
class _Place:
    """The method of the SDK that requests an operation."""

    module: str
    service: str
    function: str


@cache
def operations() -> dict[tuple[str, str], _Place]:
    """Every method and path of the API, `{}` for what varies, and where the SDK has it."""
    found = {}
    for file in sorted(_PACKAGE.rglob("_*_service.py")):
        module = "stripe." + ".".join(file.relative_to(_PACKAGE).with_suffix("").parts)
        for service in ast.parse(file.read_text()).body:
            for function in service.body if isinstance(service, ast.ClassDef) else []:
                for method, path in _requests(function) if isinstance(function, ast.FunctionDef) else []:
                    place = _Place(module, service.name, function.name)  # type: ignore[attr-defined]
                    found.setdefault((method, unnamed(path)), place)
    return found


def _requests(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _REQUESTS:
            texts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
            paths = [text for text in texts if isinstance(text, str) and text.startswith(("/v1/", "/v2/"))]
            if paths:
                yield str(texts[0]).upper(), paths[0]


def unnamed(path: str) -> str:
    """A path without the names of what varies in it, in which the fake need not agree with the SDK."""
    return re.sub(r"\{\w+\}", "{}", path)


@cache
def described(method: str, path: str) -> Described:
    """What the SDK says of an operation."""
    place = operations()[method, unnamed(path)]
    module = importlib.import_module(place.module)
    function = getattr(getattr(module, place.service), place.function)
    hints = typing.get_type_hints(function, globalns=_names(module))
    params = [each for each in typing.get_args(hints["params"]) or (hints["params"],) if each is not types.NoneType]
    return Described(params[0], hints["return"])


def kind_of(value: Any) -> Any:
    """The class of an object by what it says it is, or none."""
    name = value.get("object") if isinstance(value, dict) else None
    if not isinstance(name, str) or name not in OBJECT_CLASSES:
        return None
    module, kind = OBJECT_CLASSES[name]
    return getattr(importlib.import_module(module), kind)


@cache
def members(kind: type) -> dict[str, Any]:
    """What objects of a class have, each with its type."""
    module = sys.modules[kind.__module__]
    hints = typing.get_type_hints(kind, globalns={"StripeObject": StripeObject, **_names(module)})
    return {
        name: hint
        for name, hint in hints.items()
        if not name.startswith("_") and typing.get_origin(hint) is not typing.ClassVar
    }


@cache
def _names(module: types.ModuleType) -> dict[str, Any]:
    """The names of a module, and those that it imports for type checkers only."""
    names = dict(vars(module))
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for line in node.body:
                if isinstance(line, ast.ImportFrom) and line.module is not None:
                    source = importlib.import_module(line.module)
                    names |= {alias.asname or alias.name: getattr(source, alias.name) for alias in line.names}
    return names


@cache
def words_of(hint: Any) -> tuple[str, ...]:
    """The words that a type allows, where it allows only some."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return arguments
    if typing.get_origin(hint) not in {typing.Union, types.UnionType}:
        return ()
    return tuple(word for each in arguments for word in words_of(each))


class Shapes:
    """Names every place where JSON is not what the SDK declares; objects that `passed_over` tells are not looked at."""

    def __init__(self, passed_over: Callable[[dict[str, Any]], bool] = lambda row: False) -> None:
        self._passed_over = passed_over

    def faults(self, value: Any, hint: Any, at: str) -> list[str]:
        """What is wrong with a value that is to have a type."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in {typing.Union, types.UnionType}:
            return self._faults_of_union(value, arguments, at)
        if origin is typing.Literal:
            return [] if value in arguments else [f"{at}: {value!r} is none of {arguments}"]
        if inspect.isclass(origin or hint) and issubclass(origin or hint, StripeObject):
            return self._faults_of_object(value, origin or hint, arguments, at)
        if origin is list:
            if not isinstance(value, list):
                return [f"{at}: {value!r} is no list"]
            return [fault for i, each in enumerate(value) for fault in self.faults(each, arguments[0], f"{at}[{i}]")]
        return _faults_of_scalar(value, hint, at)

    def changed(self, value: dict[str, Any], kind: type, at: str) -> list[str]:
        """What is wrong with the old values of changed members, of which nested objects may have only some."""
        known = members(kind)
        faults = [f"{at}.{name}: Stripe has no such member" for name in value.keys() - known.keys()]
        found = [self.faults(each, known[name], f"{at}.{name}") for name, each in value.items() if name in known]
        return faults + [fault for each in found for fault in each if not fault.endswith(": missing")]

    def _faults_of_union(self, value: Any, arguments: tuple[Any, ...], at: str) -> list[str]:
        if value is None:
            return [] if types.NoneType in arguments else [f"{at}: null"]
        if isinstance(value, str) and str in arguments:
            words = [word for each in arguments for word in words_of(each)]
            if any(words):
                return [] if value in words else [f"{at}: {value!r} is none of {words}"]
        objects = [each for each in arguments if _is_object(each)]
        if not isinstance(value, dict):
            rest = [each for each in arguments if each not in objects] or arguments
            return min((self.faults(value, each, at) for each in rest), key=len)
        named = [each for each in objects if kind_of(value) is (typing.get_origin(each) or each)]
        found = [self.faults(value, each, at) for each in named or objects]
        return min(found, key=len) if found else [f"{at}: {value!r} is none of {arguments}"]

    def _faults_of_object(self, value: Any, kind: type, arguments: tuple[Any, ...], at: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{at}: {value!r} is no {kind.__name__}"]
        if self._passed_over(value):
            return []
        if kind.__name__ == "UntypedStripeObject":
            wanted = arguments[0] if arguments else Any
            return [fault for name, each in value.items() for fault in self.faults(each, wanted, f"{at}.{name}")]
        if value.get("deleted") is True:
            extra = value.keys() - {"id", "object", "deleted"}
            return [f"{at}.{name}: what is deleted has it no more" for name in extra]
        known = members(kind)
        if arguments:
            known = {**known, **_PAGE, "data": list[arguments[0]]}  # type: ignore[valid-type]
        faults = [f"{at}.{name}: Stripe has no such member" for name in value.keys() - known.keys()]
        for name, hint in known.items():
            if name in value:
                faults += self.faults(value[name], hint, f"{at}.{name}")
            elif types.NoneType not in typing.get_args(hint):
                faults.append(f"{at}.{name}: missing")
        return faults


def _is_object(hint: Any) -> bool:
    kind = typing.get_origin(hint) or hint
    return inspect.isclass(kind) and issubclass(kind, StripeObject)


def _faults_of_scalar(value: Any, hint: Any, at: str) -> list[str]:
    if hint is Any or isinstance(hint, TypeVar):
        return []
    # Exact decimals are sent as text.
    wanted: Any = str if hint is Decimal else hint
    fits = isinstance(value, wanted) and (hint is bool or not isinstance(value, bool))
    return [] if fits else [f"{at}: {value!r} is no {hint}"]

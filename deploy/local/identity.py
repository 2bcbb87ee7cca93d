"""What makes a stack itself from one start to the next: its passwords, secrets, signing key and ports."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.errors import StackError
from deploy.local.home import Home, read_json, write_json
from deploy.local.ports import free_port, is_free
from deploy.postgres.bootstrap import SERVICES, RolePasswords

# Who development tokens say they are from; a name, never looked up.
ISSUER = "http://rappen.dev/issuer"
AUDIENCE = "rappen"


@dataclass(frozen=True)
class Identity:
    """The secrets of a stack; made at random once, kept in its state folder."""

    passwords: Mapping[str, RolePasswords]
    internal_secret: str
    stripe_api_key: str
    webhook_secret: str
    issuer_key_file: Path

    def issuer(self) -> dict[str, str]:
        """Give what it takes to sign a development token."""
        return describe_issuer(self.issuer_key_file)


def load_identity(home: Home) -> Identity:
    """Read the secrets of the stack, making them if it is its first start."""
    path = home.state / "secrets.json"
    kept = read_json(path)
    if kept is None:
        kept = {
            "passwords": {
                service: {"owner": secrets.token_urlsafe(24), "app": secrets.token_urlsafe(24)} for service in SERVICES
            },
            "internal_secret": secrets.token_urlsafe(48),
            "stripe_api_key": f"sk_test_{secrets.token_hex(24)}",
            "webhook_secret": f"whsec_{secrets.token_hex(24)}",
        }
        write_json(path, kept)
    return Identity(
        passwords={service: RolePasswords(**kept["passwords"][service]) for service in SERVICES},
        internal_secret=kept["internal_secret"],
        stripe_api_key=kept["stripe_api_key"],
        webhook_secret=kept["webhook_secret"],
        issuer_key_file=ensure_issuer_key(home.state / "dev_issuer.pem"),
    )


def ensure_issuer_key(path: Path) -> Path:
    """Make the key that signs development tokens, unless it is there."""
    if not path.exists():
        pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        partial = path.with_suffix(".partial")
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(pem)
        partial.rename(path)
    return path


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def describe_issuer(key_file: Path) -> dict[str, str]:
    """Give who development tokens are from and for, and which key signs them.

    The key's id is the thumbprint of its public half (RFC 7638), which anybody can compute.
    """
    key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StackError(f"{key_file} holds no elliptic-curve key")
    numbers = key.public_key().public_numbers()
    x, y = (_base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
    members = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    key_id = _base64url(hashlib.sha256(members.encode()).digest())
    return {"issuer": ISSUER, "audience": AUDIENCE, "key_id": key_id, "private_key_file": str(key_file)}


class Ports:
    """The ports of a stack's processes by name: those given, else those of the last start, else free ones."""

    def __init__(self, home: Home, given: Mapping[str, int]) -> None:
        self._path = home.state / "ports.json"
        self._kept: dict[str, int] = read_json(self._path) or {}
        self._given = given
        self._chosen: dict[str, int] = {}

    def of(self, name: str) -> int:
        """Give the port of a process; the same name always gets the same one."""
        if name not in self._chosen:
            self._chosen[name] = self._choose(name)
            write_json(self._path, {**self._kept, **self._chosen})
        return self._chosen[name]

    def _choose(self, name: str) -> int:
        if name in self._given:
            if not is_free(self._given[name]):
                raise StackError(
                    f"port {self._given[name]}, given for {name}, is in use; give another one: --port {name}=PORT"
                )
            return self._given[name]
        kept = self._kept.get(name)
        # Also those given for processes whose turn comes later.
        taken = {*self._chosen.values(), *self._given.values()}
        if kept is not None and kept not in taken and is_free(kept):
            return kept
        return free_port(taken | set(self._kept.values()))

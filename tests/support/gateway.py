"""The gateway as a process, and the tokens that it takes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from deploy.local.ports import free_port
from services.gateway.access.identity import DevelopmentKey
from tests.support.processes import ServiceProcess
from tests.support.stack import ServerPair

__all__ = ["ALMOST_ADMIN", "ISSUER", "GatewayProcess", "Issuer"]

ISSUER = "http://issuer.test/rappen"
ALMOST_ADMIN = ("Admin", "ADMIN", "administrator", "feature-admin", "mandate-admin", "admin ", "sysadmin")


class Addressed(Protocol):
    """What the gateway forwards to: a service, or a test's stand-in for one."""

    @property
    def url(self) -> str: ...


class Issuer:
    """Signs tokens as a development stack does."""

    def __init__(self, folder: Path) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / "issuer.pem"
        self.file.write_bytes(
            self.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.key_id = DevelopmentKey(self.file).public["kid"]

    def token(
        self, claims: Mapping[str, Any], *, key: Any = None, algorithm: str = "ES256", **headers: str | None
    ) -> str:
        """A token with usable defaults for whatever is not given; a claim or header of None is left out."""
        now = int(time.time())
        all_claims = {"iss": ISSUER, "aud": "rappen", "iat": now, "exp": now + 600, **claims}
        all_headers = {"typ": "at+jwt", "kid": self.key_id, **headers}
        return jwt.encode(
            {name: claim for name, claim in all_claims.items() if claim is not None},
            key if key is not None else self.key,
            algorithm=algorithm,
            headers={name: header for name, header in all_headers.items() if header is not None},
        )

    def person(self, user_id: str, *, system_admin: bool = False) -> dict[str, str]:
        """The headers of a person."""
        claims = {"sub": user_id, "rappen_system_admin": True} if system_admin else {"sub": user_id}
        return {"Authorization": f"Bearer {self.token(claims)}"}

    def service_account(self, scope: str) -> dict[str, str]:
        """The headers of a service account."""
        return {"Authorization": f"Bearer {self.token({'sub': 'service:tests', 'scope': scope})}"}


class GatewayProcess(ServiceProcess):
    """One gateway as a process of its own, as it runs in production, in front of these services."""

    def __init__(
        self,
        servers: ServerPair,
        issuer: Issuer,
        peers: Mapping[str, Addressed],
        folder: Path,
        *,
        role: str = "all",
        more: Mapping[str, str] | None = None,
        **place: Any,
    ) -> None:
        internal_port = free_port()
        settings = {
            **{f"GATEWAY_{name.upper()}_URL": peer.url for name, peer in peers.items()},
            "GATEWAY_INTERNAL_HTTP__PORT": str(internal_port),
            "GATEWAY_DEV_ISSUER__ISSUER": ISSUER,
            "GATEWAY_DEV_ISSUER__PRIVATE_KEY_FILE": str(issuer.file),
            "GATEWAY_FRONTEND_ORIGINS": '["https://app.test"]',
            "GATEWAY_RATE_LIMITS__ENABLED": "false",
            # Beside the usual roles some that only look like `admin`.
            "GATEWAY_MEMBER_ROLES": json.dumps(["admin", "member", *ALMOST_ADMIN]),
            "GATEWAY_ACCESS_ROLES": json.dumps(["admin", "user", *ALMOST_ADMIN]),
            **(more or {}),
        }
        log = folder / f"gateway-{uuid4().hex}.log"
        super().__init__(servers, "gateway", role, log, more=settings, internal_port=internal_port, **place)

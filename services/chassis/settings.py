"""The settings that all services share: environment variables `<SERVICE>_<NAME>`, groups nested by `__`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

__all__ = ["DatabaseSettings", "HttpSettings", "KafkaSettings", "ServiceSettings", "SettingsGroup"]

Environment = Literal["development", "production"]


class SettingsGroup(BaseModel):
    """Base of the groups within settings: nothing is set later, and nothing that is not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KafkaSettings(SettingsGroup):
    """The broker; a client name per replica is made from the service and its instance."""

    bootstrap_servers: str
    # After a kill the group waits this long for the dead member. An expulsion by mistake only costs a redelivery.
    session_timeout_ms: int = 8_000
    batch_records_max: int = Field(default=4_000, ge=1, le=10_000)
    # A consumer stops when at least this share of a run of records was refused, the run has this many refused records,
    # and they are of at least this many keys (services/chassis/dead_letter_limit.py).
    dead_letter_share: float = Field(default=0.95, gt=0, le=1)
    dead_letter_run: int = Field(default=2_000, ge=1)
    dead_letter_keys: int = Field(default=5, ge=1)

    @model_validator(mode="after")
    def _run_has_room_for_the_keys(self) -> Self:
        if self.dead_letter_keys > self.dead_letter_run:
            raise ValueError("dead_letter_keys is at most dead_letter_run")
        return self


class DatabaseSettings(SettingsGroup):
    """How long a session of PostgreSQL may hold up others. The service sets it on each of its connections, so that it
    does not depend on how the server was set up."""

    # Waiting for a lock ends before a request does, so that its caller is told that nothing was done.
    lock_timeout_s: float = Field(default=5.0, gt=0, le=600)
    statement_timeout_s: float = Field(default=30.0, gt=0, le=3600)
    # A process that stands still in the middle of a transaction lets go of its locks.
    idle_in_transaction_timeout_s: float = Field(default=60.0, gt=0, le=3600)
    # A peer that is gone without a word is noticed on both sides.
    peer_timeout_s: int = Field(default=30, ge=5, le=3600)
    # Callers that may wait for a connection; further ones are answered at once that there is none.
    waiting_max: int = Field(default=500, ge=1)


class HttpSettings(SettingsGroup):
    """Where this process listens; port 0 is refused because other processes are configured with the port."""

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    # Several processes listen on this port, and the kernel spreads new connections over them; without it a second one
    # is refused.
    shared: bool = False


class ServiceSettings(BaseSettings):
    """The settings that all four services share. Built once in `__main__` and passed down."""

    environment: Environment = "production"
    instance: str = "1"
    # The application role: no DDL, no other schema.
    database_url: SecretStr
    # The owner of the schema; only `migrate` uses it.
    database_owner_url: SecretStr | None = None
    database: DatabaseSettings = DatabaseSettings()
    kafka: KafkaSettings
    http: HttpSettings
    # Signs the caller context between the gateway and the services.
    internal_secret: SecretStr = Field(min_length=32)
    # Placed faults of the tests: a folder in which a file arms a point. Never in production.
    faults_folder: Path | None = None
    # How far the platform's time is ahead of the machine's (services/chassis/clock.py). Never in production.
    clock_file: Path | None = None

    @field_validator("database_url", "database_owner_url")
    @classmethod
    def _is_of_postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        expected = "a URL such as postgresql://user:password@host:5432/database is expected"
        try:
            backend = "postgresql" if url is None else make_url(url.get_secret_value()).get_backend_name()
        except (ArgumentError, ValueError):
            # What it says shows the URL, which has the password.
            raise ValueError(expected) from None
        if backend != "postgresql":
            raise ValueError(expected)
        return url

    @model_validator(mode="after")
    def _production_is_real(self) -> Self:
        if self.environment == "production" and self.faults_folder is not None:
            raise ValueError("faults_folder is for development")
        if self.environment == "production" and self.clock_file is not None:
            raise ValueError("clock_file is for development")
        return self

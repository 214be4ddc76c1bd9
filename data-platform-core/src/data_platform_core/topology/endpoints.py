"""Addresses of services: where one listens, and where clients connect."""

from __future__ import annotations

import ipaddress
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

#: Listening on one of these is listening on every address of the machine.
_EVERY_ADDRESS = ("0.0.0.0", "::")


class Frozen(BaseModel):
    """A section of a topology: immutable; unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Address(Frozen):
    """Where somebody listens, as those who connect know it."""

    host: str
    port: int = Field(ge=1, le=65535)

    @field_validator("host")
    @classmethod
    def _can_be_connected_to(cls, host: str) -> str:
        if host in _EVERY_ADDRESS:
            raise ValueError(f"{host} is no address to connect to; give one that clients reach, and `bind: {host}`")
        return host

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return _is_loopback(self.host)

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class Endpoint(Address):
    """An address of a service of ours. `bind` is the one that it listens on; without it, `host`."""

    bind: str = ""

    @model_validator(mode="before")
    @classmethod
    def _binds_its_host(cls, raw: Any) -> Any:
        return {"bind": raw["host"], **raw} if isinstance(raw, dict) and "host" in raw else raw

    @property
    def listen(self) -> str:
        """Address and port to listen on."""
        return f"{self.bind}:{self.port}"

    @property
    def binds_elsewhere(self) -> bool:
        """Whether it listens on another address than clients connect to."""
        return self.bind != self.host

    @property
    def is_here(self) -> bool:
        """Whether this machine runs it: one of its addresses is loopback."""
        return self.is_loopback or _is_loopback(self.bind)

    def at(self, port: int) -> Endpoint:
        """Another port of the same service."""
        return Endpoint(host=self.host, bind=self.bind, port=port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

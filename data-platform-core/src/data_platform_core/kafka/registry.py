"""The contracts' schemas in the registry, through confluent-kafka's client."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Literal, TypeVar

import httpx2
import structlog
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.kafka.resolution import unreadable
from data_platform_core.settings import RegistrySettings

#: The service's name in messages and metrics.
REGISTRY = "registry"
#: A new connection, seconds: loopback or home network.
CONNECT_TIMEOUT_S = 3.0
#: Timeout of an answer, seconds: a registry that just started is slow at its first queries.
ANSWER_TIMEOUT_S = 15.0
#: Every call may be repeated: the same schema is registered once. Pauses have jitter, milliseconds at most.
_RETRY = {"max.retries": 2, "retries.wait.ms": 500, "retries.max.wait.ms": 2000}
_AVRO = "AVRO"

_Answer = TypeVar("_Answer")

log = structlog.get_logger(__name__)


class RegistryClient:
    """Registers and looks up the contracts' schemas. Every method raises ServiceError in one line."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._url = settings.url.rstrip("/")
        self._client = SchemaRegistryClient({"url": self._url, **_RETRY})
        # The library can't ignore the shell's proxy, which must not be used for our own services (ADR 0002).
        self._client._rest_client.session = httpx2.Client(
            trust_env=False, timeout=httpx2.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        )

    def apply(self, contracts: Iterable[Contract]) -> dict[str, int]:
        """Set BACKWARD compatibility and register each contract's schema unchanged; schema ids by entity.

        Nothing is registered when one of the schemas is incompatible with its subject.
        """
        wanted = list(contracts)
        for contract in wanted:
            self._refuse_incompatible(contract)
        return {contract.entity: self._register(contract) for contract in wanted}

    def schema_id(self, contract: Contract) -> int:
        """The registry's id of the contract's exact schema."""
        subject = contract.names.subject
        schema = Schema(contract.avro_json, _AVRO)
        found = self._found(f"subject {subject}", lambda: self._client.lookup_schema(subject, schema))
        if found is not None:
            return int(found.schema_id)
        self.writer_schemas(contract)
        raise ServiceError(
            f"registry {self._url}: subject {subject} does not hold the schema of contract {contract.entity}; "
            f"register it with `crm registry apply`"
        )

    def writer_schemas(self, contract: Contract, on_unreadable: Literal["raise", "skip"] = "raise") -> dict[int, str]:
        """Every version of the contract's subject: schema JSON by id.

        A version that can't be read as the contract's schema raises, or is skipped with a warning (`skip`: for a
        running stream, where its records become dead letters like any unknown id).
        """
        subject = contract.names.subject
        versions = self._versions(subject)
        if not versions:
            raise ServiceError(
                f"registry {self._url}: subject {subject} has no schema; register it with `crm registry apply`"
            )
        return self._readable(contract, versions, on_unreadable)

    def _readable(
        self, contract: Contract, versions: Iterable[int], on_unreadable: Literal["raise", "skip"] = "raise"
    ) -> dict[int, str]:
        """`writer_schemas` of these versions."""
        subject = contract.names.subject
        schemas: dict[int, str] = {}
        for version in versions:
            what = f"subject {subject} version {version}"
            found = self._asked(what, lambda version=version: self._client.get_version(subject, version))  # type: ignore[misc]
            reason = unreadable(contract.avro, json.loads(found.schema.schema_str))
            if reason is None:
                schemas[int(found.schema_id)] = found.schema.schema_str
            elif on_unreadable == "raise":
                raise ServiceError(
                    f"registry {self._url}: {what} can't be read as contract {contract.entity}: {reason}; delete that "
                    "version, or change the contract to read both"
                )
            else:
                log.warning("schema version ignored", subject=subject, version=version, reason=reason)
        return schemas

    def _refuse_incompatible(self, contract: Contract) -> None:
        """Raise when data written with the subject's versions can't be read with the contract's schema."""
        self._readable(contract, self._versions(contract.names.subject))

    def _register(self, contract: Contract) -> int:
        subject, schema = contract.names.subject, Schema(contract.avro_json, _AVRO)
        self._asked(f"compatibility of subject {subject}", lambda: self._client.set_compatibility(subject, "BACKWARD"))
        try:
            return int(self._called(lambda: self._client.register_schema(subject, schema)))
        except SchemaRegistryError as error:
            if error.http_status_code == HTTPStatus.CONFLICT:
                raise ServiceError(
                    f"registry {self._url}: subject {subject} refuses the schema of contract {contract.entity} as "
                    f"incompatible: {_message(error)}; give new fields a default, or make a new topic version"
                ) from None
            raise self._unexpected(error, f"subject {subject}") from None

    def _versions(self, subject: str) -> list[int]:
        return self._found(f"subject {subject}", lambda: self._client.get_versions(subject)) or []

    def _found(self, what: str, call: Callable[[], _Answer]) -> _Answer | None:
        """The registry's answer; None for HTTP 404."""
        try:
            return self._called(call)
        except SchemaRegistryError as error:
            if error.http_status_code == HTTPStatus.NOT_FOUND:
                return None
            raise self._unexpected(error, what) from None

    def _asked(self, what: str, call: Callable[[], _Answer]) -> _Answer:
        try:
            return self._called(call)
        except SchemaRegistryError as error:
            raise self._unexpected(error, what) from None

    def _called(self, call: Callable[[], _Answer]) -> _Answer:
        """Raises UnreachableError for no answer, SchemaRegistryError for a refusal."""
        try:
            return call()
        except httpx2.TimeoutException:
            raise UnreachableError(
                REGISTRY, f"registry {self._url}: no answer within {ANSWER_TIMEOUT_S:g} s; is it healthy? `make status`"
            ) from None
        except httpx2.HTTPError as error:
            raise UnreachableError(
                REGISTRY,
                f"registry {self._url}: no connection ({type(error).__name__}); is the stack up? `make status`",
            ) from None
        except SchemaRegistryError as error:
            if error.http_status_code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            raise UnreachableError(REGISTRY, f"registry {self._url}: is not ready (HTTP 503); `make status`") from None

    def _unexpected(self, error: SchemaRegistryError, what: str) -> ServiceError:
        return ServiceError(f"registry {self._url}: {what}: HTTP {error.http_status_code}: {_message(error)}")


def _message(error: SchemaRegistryError) -> str:
    """The registry's message on one line."""
    return " ".join(str(error.error_message).split())[:500] or "no message"

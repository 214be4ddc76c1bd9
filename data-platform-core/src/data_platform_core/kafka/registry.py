"""The schema registry, by its Confluent API (`/subjects`, `/config`, `/compatibility`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import quote

import httpx
import structlog
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from data_platform_core.contracts import Contract
from data_platform_core.errors import ServiceError, UnreachableError
from data_platform_core.kafka.resolution import unreadable
from data_platform_core.settings import RegistrySettings

#: The service's name in messages and metrics.
REGISTRY = "registry"
#: A new connection, seconds: loopback or home network.
CONNECT_TIMEOUT_S = 3.0
#: One answer, seconds: a registry that just started compiles its first queries for a while.
ANSWER_TIMEOUT_S = 15.0
_ATTEMPTS = 4
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"

log = structlog.get_logger(__name__)


class RegistryClient:
    """Registers and looks up the contracts' schemas. Every method raises ServiceError in one line."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._url = settings.url.rstrip("/")
        self._http = httpx.Client(
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            headers={"Accept": _CONTENT_TYPE, "Content-Type": _CONTENT_TYPE},
            trust_env=False,  # a proxy of the shell is not for our own services
        )

    def apply(self, contracts: Iterable[Contract]) -> dict[str, int]:
        """Set BACKWARD compatibility and register each contract's schema as it stands; schema ids by entity.

        Nothing is registered when one of the schemas is incompatible with what its subject holds.
        """
        wanted = list(contracts)
        for contract in wanted:
            self._refuse_incompatible(contract)
        return {contract.entity: self._register(contract) for contract in wanted}

    def schema_id(self, contract: Contract) -> int:
        """The registry's id of exactly the contract's schema."""
        subject = contract.names.subject
        answer = self._call("POST", f"/subjects/{quote(subject)}", {"schema": contract.avro_json})
        if answer.status_code == HTTPStatus.OK:
            return int(answer.json()["id"])
        if answer.status_code != HTTPStatus.NOT_FOUND:
            raise self._unexpected(answer, f"subject {subject}")
        if not self._versions(subject):
            raise ServiceError(
                f"registry {self._url}: subject {subject} has no schema; register it with `crm registry apply`"
            )
        self._refuse_incompatible(contract)
        raise ServiceError(
            f"registry {self._url}: subject {subject} does not hold the schema of contract {contract.entity}; "
            f"register it with `crm registry apply`"
        )

    def writer_schemas(self, contract: Contract, on_unreadable: Literal["raise", "skip"] = "raise") -> dict[int, str]:
        """Every version of the contract's subject: schema JSON by id.

        A version that can't be read as the contract's schema raises, or is left out with a warning (`skip`: for a
        stream under way, where its records are dead letters like any unknown id).
        """
        subject = contract.names.subject
        versions = self._versions(subject)
        if not versions:
            raise ServiceError(
                f"registry {self._url}: subject {subject} has no schema; register it with `crm registry apply`"
            )
        schemas: dict[int, str] = {}
        for version in versions:
            answer = self._call("GET", f"/subjects/{quote(subject)}/versions/{version}")
            if answer.status_code != HTTPStatus.OK:
                raise self._unexpected(answer, f"subject {subject} version {version}")
            found = answer.json()
            reason = unreadable(contract.avro, json.loads(found["schema"]))
            if reason is None:
                schemas[int(found["id"])] = found["schema"]
            elif on_unreadable == "raise":
                raise ServiceError(
                    f"registry {self._url}: subject {subject} version {version} can't be read as contract "
                    f"{contract.entity}: {reason}; delete that version, or change the contract to read both"
                )
            else:
                log.warning("schema version ignored", subject=subject, version=version, reason=reason)
        return schemas

    def _refuse_incompatible(self, contract: Contract) -> None:
        """Raise when data written with the subject's versions can't be read with the contract's schema."""
        if self._versions(contract.names.subject):
            self.writer_schemas(contract)

    def _register(self, contract: Contract) -> int:
        subject = contract.names.subject
        level = self._call("PUT", f"/config/{quote(subject)}", {"compatibility": "BACKWARD"})
        if level.status_code != HTTPStatus.OK:
            raise self._unexpected(level, f"compatibility of subject {subject}")
        body = {"schema": contract.avro_json, "schemaType": "AVRO"}
        answer = self._call("POST", f"/subjects/{quote(subject)}/versions", body)
        if answer.status_code == HTTPStatus.CONFLICT:
            raise ServiceError(
                f"registry {self._url}: subject {subject} refuses the schema of contract {contract.entity} as "
                f"incompatible: {_message(answer)}; give new fields a default, or make a new topic version"
            )
        if answer.status_code != HTTPStatus.OK:
            raise self._unexpected(answer, f"subject {subject}")
        return int(answer.json()["id"])

    def _versions(self, subject: str) -> list[int]:
        answer = self._call("GET", f"/subjects/{quote(subject)}/versions")
        if answer.status_code == HTTPStatus.NOT_FOUND:
            return []
        if answer.status_code != HTTPStatus.OK:
            raise self._unexpected(answer, f"subject {subject}")
        return [int(version) for version in answer.json()]

    def _call(self, method: str, path: str, body: dict[str, str] | None = None) -> httpx.Response:
        try:
            answer = self._request(method, path, body)
        except httpx.TimeoutException:
            raise UnreachableError(
                REGISTRY, f"registry {self._url}: no answer within {ANSWER_TIMEOUT_S:g} s; is it healthy? `make status`"
            ) from None
        except httpx.HTTPError as error:
            raise UnreachableError(
                REGISTRY,
                f"registry {self._url}: no connection ({type(error).__name__}); is the stack up? `make status`",
            ) from None
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            raise UnreachableError(REGISTRY, f"registry {self._url}: is not ready (HTTP 503); `make status`")
        return answer

    @retry(
        # Only what certainly never reached the registry is tried again.
        retry=retry_if_exception_type((httpx.ConnectError, httpx.ConnectTimeout)),
        stop=stop_after_attempt(_ATTEMPTS),
        wait=wait_exponential(0.2, max=2),
        reraise=True,
    )
    def _request(self, method: str, path: str, body: dict[str, str] | None) -> httpx.Response:
        return self._http.request(method, self._url + path, json=body)

    def _unexpected(self, answer: httpx.Response, what: str) -> ServiceError:
        return ServiceError(f"registry {self._url}: {what}: HTTP {answer.status_code}: {_message(answer)}")


def _message(answer: httpx.Response) -> str:
    """What the registry said, on one line."""
    try:
        said: Any = answer.json()
        text = said.get("message") or said.get("detail") or str(said) if isinstance(said, dict) else str(said)
    except ValueError:
        text = answer.text
    return " ".join(str(text).split())[:500] or "no message"

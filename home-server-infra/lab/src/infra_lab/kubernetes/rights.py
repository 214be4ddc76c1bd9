"""What each service account may do, answered by a real API server and compared with the matrix of accounts.

The expectation does not come from the roles that are checked: it is written here, by what an account is for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import yaml

from data_platform_core.access.matrix import load_matrix
from data_platform_core.access.names import kubernetes_name
from data_platform_core.jobs import load_jobs
from data_platform_core.kubernetes import names
from data_platform_core.kubernetes.objects import WORKFLOWS_ACCOUNT
from data_platform_core.kubernetes.services import services
from data_platform_core.kubernetes.spark import API as SPARK_API
from data_platform_core.topology import Topology
from infra_lab.kubernetes import control_plane
from infra_lab.kubernetes.layout import Layout, platform


class Purpose(StrEnum):
    """What an account is for at the API server."""

    NOTHING = "nothing"
    DRIVER = "makes executors"
    WORKFLOWS = "submits jobs"


@dataclass(frozen=True)
class Question:
    """May an account do this? `group`: API group of the resource; `elsewhere`: outside the platform's namespace."""

    verb: str
    resource: str
    group: str = ""
    subresource: str = ""
    elsewhere: bool = False

    def __str__(self) -> str:
        resource = f"{self.resource}/{self.subresource}" if self.subresource else self.resource
        return f"{self.verb} {resource}{' elsewhere' if self.elsewhere else ''}"


_APPLICATIONS, _BATCH, _RBAC = SPARK_API.partition("/")[0], "batch", "rbac.authorization.k8s.io"

#: Every question, and who must get a yes. What nobody must be able to do has nobody.
QUESTIONS: Mapping[Question, frozenset[Purpose]] = {
    Question("create", "pods"): frozenset({Purpose.DRIVER}),
    Question("delete", "pods"): frozenset({Purpose.DRIVER}),
    Question("list", "pods"): frozenset({Purpose.DRIVER, Purpose.WORKFLOWS}),
    Question("create", "configmaps"): frozenset({Purpose.DRIVER}),
    Question("get", "configmaps"): frozenset({Purpose.DRIVER}),
    Question("delete", "services"): frozenset({Purpose.DRIVER}),
    Question("get", "pods", subresource="log"): frozenset({Purpose.WORKFLOWS}),
    Question("create", "sparkapplications", _APPLICATIONS): frozenset({Purpose.WORKFLOWS}),
    Question("delete", "sparkapplications", _APPLICATIONS): frozenset({Purpose.WORKFLOWS}),
    Question("create", "jobs", _BATCH): frozenset({Purpose.WORKFLOWS}),
    # Reading another's Secret, or getting into its pod, is being that other.
    Question("get", "secrets"): frozenset(),
    Question("list", "secrets"): frozenset(),
    Question("create", "pods", subresource="exec"): frozenset(),
    Question("create", "pods", subresource="ephemeralcontainers"): frozenset(),
    Question("create", "serviceaccounts", subresource="token"): frozenset(),
    Question("impersonate", "serviceaccounts"): frozenset(),
    Question("create", "rolebindings", _RBAC): frozenset(),
    Question("escalate", "roles", _RBAC): frozenset(),
    Question("patch", "sparkapplications", _APPLICATIONS): frozenset(),
    Question("create", "services"): frozenset(),
    Question("delete", "resourcequotas"): frozenset(),
    Question("list", "nodes"): frozenset(),
    Question("create", "pods", elsewhere=True): frozenset(),
    Question("list", "pods", elsewhere=True): frozenset(),
    Question("create", "sparkapplications", _APPLICATIONS, elsewhere=True): frozenset(),
}
_ELSEWHERE = "kube-system"


@dataclass(frozen=True)
class Answer:
    """What the API server answered about an account."""

    account: str
    question: Question
    allowed: bool
    expected: bool

    def __str__(self) -> str:
        return f"{self.account} {'may' if self.allowed else 'may not'} {self.question}"


def purposes(topology: Topology) -> dict[str, Purpose]:
    """Each account of a pod of the platform, and what it is for."""
    found = {
        kubernetes_name(name): Purpose.DRIVER if service.drives_spark else Purpose.NOTHING
        for name, service in services(topology, load_matrix(), load_jobs().values()).items()
    }
    return {**found, names.EXECUTOR_ACCOUNT: Purpose.NOTHING, WORKFLOWS_ACCOUNT: Purpose.WORKFLOWS}


def answers(layout: Layout, topology: Topology) -> list[Answer]:
    """Every question about every account, answered by the API server, which has the environment's objects."""
    expected = purposes(topology)
    asked = [(account, question) for account in expected for question in QUESTIONS]
    reviews = [review(account, question, platform(topology).namespace) for account, question in asked]
    printed = control_plane.kubectl(layout, "create", "-o", "json", "-f", "-", stdin=yaml.safe_dump_all(reviews))
    return [
        Answer(account, question, allowed, expected[account] in QUESTIONS[question])
        for (account, question), allowed in zip(asked, verdicts(printed), strict=True)
    ]


def review(account: str, question: Question, namespace: str) -> dict[str, Any]:
    """What `kubectl auth can-i --as` asks, in a form of which one call carries many."""
    attributes = {
        "verb": question.verb,
        "resource": question.resource,
        "group": question.group,
        "subresource": question.subresource,
        "namespace": _ELSEWHERE if question.elsewhere else namespace,
    }
    accounts = f"system:serviceaccounts:{namespace}"
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": f"system:serviceaccount:{namespace}:{account}",
            "groups": ["system:serviceaccounts", accounts, "system:authenticated"],
            "resourceAttributes": {key: value for key, value in attributes.items() if value},
        },
    }


def verdicts(printed: str) -> Iterator[bool]:
    """Whether each review was allowed; kubectl prints one JSON document after another, or a list."""
    decoder, position = json.JSONDecoder(), 0
    while (rest := printed[position:].lstrip()):  # fmt: skip
        position = len(printed) - len(rest)
        document, length = decoder.raw_decode(rest)
        position += length
        for item in document.get("items", [document]):
            yield bool(item["status"].get("allowed", False))

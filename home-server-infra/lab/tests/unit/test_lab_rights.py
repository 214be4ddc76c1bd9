"""Rights of service accounts: who is asked what, how answers are read. The API server itself answers in test-k8s."""

from __future__ import annotations

import json

import pytest

from data_platform_core.topology import load_topology
from infra_lab.kubernetes import rights
from infra_lab.kubernetes.rights import QUESTIONS, Answer, Purpose, Question

pytestmark = pytest.mark.unit


def test_services_with_spark_jobs_make_executors_and_no_other_does() -> None:
    found = rights.purposes(load_topology("k8s-lab"))
    assert {account for account, purpose in found.items() if purpose is Purpose.DRIVER} == {
        "crm-streaming",
        "crm-batch",
    }
    assert found["crm-generator"] is Purpose.NOTHING
    assert found["crm-executor"] is Purpose.NOTHING


@pytest.mark.parametrize(
    "question",
    [Question("get", "secrets"), Question("create", "pods", subresource="exec"), Question("list", "nodes")],
)
def test_nobody_may_become_another(question: Question) -> None:
    assert QUESTIONS[question] == frozenset()


def test_every_purpose_but_none_has_something_that_it_may_do() -> None:
    assert {purpose for allowed in QUESTIONS.values() for purpose in allowed} == {Purpose.DRIVER, Purpose.WORKFLOWS}


def test_a_review_asks_for_the_account_as_the_api_server_knows_it() -> None:
    review = rights.review("crm-batch", Question("list", "pods", elsewhere=True), "crm")["spec"]
    assert review["user"] == "system:serviceaccount:crm:crm-batch"
    assert review["resourceAttributes"] == {"verb": "list", "resource": "pods", "namespace": "kube-system"}


def test_answers_are_read_one_document_after_another_or_as_a_list() -> None:
    yes, no = {"status": {"allowed": True}}, {"status": {"allowed": False, "reason": "none"}}
    assert list(rights.verdicts(json.dumps(yes) + "\n" + json.dumps(no, indent=2))) == [True, False]
    assert list(rights.verdicts(json.dumps({"kind": "List", "items": [no, yes]}))) == [False, True]


def test_a_wrong_answer_reads_as_a_sentence() -> None:
    answer = Answer("crm-dbt", Question("create", "pods", subresource="exec"), allowed=True, expected=False)
    assert str(answer) == "crm-dbt may create pods/exec"

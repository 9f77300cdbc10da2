"""The API against its own description: whatever is sent, the answer is one that /openapi.json declares."""

from collections.abc import Iterator

import pytest
import schemathesis
from bughunt_leaderboard.limits import Limits
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from serving import CHALLENGE, Server, official, serving

PLENTY = Limits(**dict.fromkeys(Limits().dump(), 1_000_000))
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
]  # fmt: skip
TOKENS: dict[str, str] = {}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("api") / "cup", limits=PLENTY) as server:
        client, _ = server.join("Red")
        body = {"challenge": CHALLENGE, "files": {"train.py": "x = 1\n"}}
        assert client.post("/api/v1/submissions", json=body).status_code == 202
        TOKENS["player"] = client.headers["authorization"]
        TOKENS["admin"] = official(server, "admin")[0].headers["authorization"]
        yield server


@pytest.fixture(scope="module")
def api(server: Server) -> schemathesis.BaseSchema:
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    return schema.exclude(path="/api/v1/stream")  # has no end


def answers(operation: schemathesis.APIOperation) -> int:
    """Send what the description allows and what it does not, with no token, a team's and an admin's."""
    sent = 0

    @settings(max_examples=9, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def answered(case: schemathesis.Case) -> None:
        nonlocal sent
        for token in ("", *TOKENS.values()):
            case.headers = {**(case.headers or {}), **({"authorization": token} if token else {})}
            case.call_and_validate(checks=CHECKS, timeout=60)
            sent += 1

    answered()
    return sent


def test_whatever_is_sent_the_answer_is_as_declared(api: schemathesis.BaseSchema) -> None:
    sent, wrong = dict[str, int](), list[str]()
    for found in api.get_all_operations():
        operation = found.ok()
        try:
            sent[operation.label] = answers(operation)
        except (Exception, BaseExceptionGroup) as error:
            wrong.append(f"{operation.label}: {error}")
    assert not wrong, "\n\n".join(wrong)
    assert len(sent) >= 30
    assert min(sent.values()) >= len(TOKENS) + 1

"""What /openapi.json promises against what the service does, with requests that schemathesis makes up.

Left out are schemathesis' checks that any request of the right types is accepted (the protocols' rules go beyond types)
and that names are refused which nobody knows (DALI 1.1 has them ignored).
"""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from web.conftest import Server

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def test_every_answer_is_one_that_is_described(server: Server) -> None:
    server.create(PHASE="RUN")
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), "an operation that cannot be read"

        @given(found.ok().as_strategy())
        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck))
        def answered_as_described(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(checks=CHECKS)

        answered_as_described()


def test_every_operation_says_how_it_fails_and_none_promises_what_never_comes(server: Server) -> None:
    paths = server.http.get("/openapi.json").json()["paths"]
    assert {"/jobs", "/jobs/{id}", "/tap/async", "/tap/sync", "/provenance", "/artefacts/{id}"} <= set(paths)
    for path, operations in paths.items():
        for method, operation in operations.items():
            responses = operation["responses"]
            assert {"400", "500", "503"} <= set(responses), (method, path)
            assert "422" not in responses

"""M1: the four divide requests, and every variation of them."""

import json
import math

import pytest

from tests.service import Service

pytestmark = pytest.mark.mission("M1")

NO_NUMBERS = (
    *("x", "", " 1", "1 ", "+1", "--1", "1_000", "01", "1.", ".5", "1e", ".", "1,5", "0x10"),
    *("nan", "inf", "-Infinity", "1e400", "true", "null", "[1]", "1\t", "9" * 5000),
    *("\u0661", "\uff11"),
)


def test_ten_by_two_is_five(service: Service) -> None:
    answer = service.client().get("/v1/divide?a=10&b=2")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == b'{"result":5.0}'


def test_division_by_zero_is_an_impossible_operation(service: Service) -> None:
    for zero in ("0", "-0", "0.0", "0e5"):
        answer = service.client().get("/v1/divide", params={"a": 10, "b": zero})
        assert answer.status_code == 422
        assert answer.json()["type"].endswith("/problems/impossible-division")


@pytest.mark.parametrize("missing", ["a", "b"])
def test_a_missing_parameter_is_named(service: Service, missing: str) -> None:
    given = "b" if missing == "a" else "a"
    answer = service.client().get("/v1/divide", params={given: 1})
    assert answer.status_code == 400
    assert missing in answer.json()["detail"].split()
    assert answer.json()["errors"] == [
        {"in": "query", "parameter": missing, "code": "required", "message": "is required"}
    ]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_an_invalid_number_is_named_and_not_repeated(service: Service, text: str) -> None:
    answer = service.client().get("/v1/divide", params={"a": text, "b": 2})
    assert answer.status_code == 400
    [error] = answer.json()["errors"]
    assert (error["in"], error["parameter"]) == ("query", "a")
    assert error["message"].startswith(("is not a number", "has a control"))


@pytest.mark.parametrize("text", ["1", "-1", "0", "1.5", "1e3", "1E-3", "-0.25", "123456789.125"])
def test_every_json_number_is_accepted(service: Service, text: str) -> None:
    answer = service.client().get("/v1/divide", params={"a": text, "b": 1})
    assert answer.json() == {"result": float(json.loads(text))}


def test_a_quotient_beyond_a_double_is_impossible(service: Service) -> None:
    answer = service.client().get("/v1/divide?a=1e15&b=1e-320")
    assert answer.status_code in (400, 422)


def test_both_violations_are_reported_at_once(service: Service) -> None:
    answer = service.client().get("/v1/divide?a=x&b=y")
    assert [error["parameter"] for error in answer.json()["errors"]] == ["a", "b"]


def test_repeated_and_unknown_parameters_are_refused(service: Service) -> None:
    client = service.client()
    repeated = client.get("/v1/divide?a=1&a=2&b=1").json()
    assert [error["code"] for error in repeated["errors"]] == ["repeated"]
    unknown = client.get("/v1/divide?a=1&b=1&canary=1")
    assert unknown.status_code == 400
    assert "canary" not in unknown.text
    assert "declared parameters are: a, b" in unknown.json()["errors"][0]["message"]


def test_results_are_ieee_754_doubles(service: Service) -> None:
    for a, b in [(1, 3), (2, 7), (-5, 4), (1e-7, 3e5)]:
        result = service.client().get("/v1/divide", params={"a": a, "b": b}).json()["result"]
        assert math.isclose(result, a / b, rel_tol=0)

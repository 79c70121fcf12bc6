"""Operations that share a counter must declare the same limit, or the service does not start."""

from copy import deepcopy

import pytest

from api.contract.compile.operations import compile_operations
from api.contract.compile.schemas import SchemaNode, Validators
from api.contract.engine_errors import ContractViolation
from tests.our_document import our_document

CONTRACT = our_document().bundle
PATH = "/v1/profile/second-factor"


def compile_with(**changes: object) -> list[str]:
    """Compile the contract with the shared limit of one operation changed; which ones share it."""
    bundle: SchemaNode = deepcopy(dict(CONTRACT))
    bundle["paths"][PATH]["post"]["x-rate-limit"][0].update(changes)
    return [
        operation.id
        for operation in compile_operations(bundle, Validators(bundle))
        if any(limit.shared for limit in operation.rate_limits)
    ]


def test_a_shared_limit_may_count_some_requests_only() -> None:
    assert compile_with() == compile_with(**{"when-given": "#/current_password"})
    assert {"update_profile", "update_user", "enrol_second_factor"} <= set(compile_with())


@pytest.mark.parametrize("changes", [{"limit": 11}, {"window": 1}, {"per": "caller"}])
def test_operations_with_a_shared_limit_must_agree(changes: dict[str, object]) -> None:
    with pytest.raises(ContractViolation, match="shared limit password-proof unlike another"):
        compile_with(**changes)

"""Preconditions: of two changes to one version, exactly one succeeds (RFC 9110, section 13)."""

from functools import partial

import httpx
import pytest

from tests.api.accounts import bearer, fresh_address, token_for
from tests.api.answers import problem
from tests.api.sample_calls import SampleCall, operations
from tests.api.things import things_for
from tests.factories import make_account
from tests.models.together import together
from tests.service import Service

pytestmark = [pytest.mark.mission("M23"), pytest.mark.mission("M25")]

CHANGES = [each for each in operations() if each.method != "GET" and "If-Match" in each.parameters]
READS = {each.path: each for each in operations() if each.method == "GET" and each.query == {}}


def changed_by(operation: SampleCall) -> SampleCall:
    """The operation that reads what another changes: the nearest at or above its path."""
    path = operation.path
    while "If-Match" not in READS.get(path, operation).parameters or path not in READS:
        path = path.rpartition("/")[0]
    return READS[path]


@pytest.mark.parametrize("operation", CHANGES, ids=lambda each: each.id)
def test_one_of_two_changes_from_one_version_succeeds(
    service: Service, client: httpx.Client, operation: SampleCall
) -> None:
    boss, owner = make_account(service, role="admin"), make_account(service)
    who = owner if operation.tag == "profile" else boss
    headers = bearer(token_for(service, who)) | fresh_address()
    things = things_for(service, operation, owner)
    url = changed_by(operation).url(things.places)
    tag = client.get(url, headers=headers).headers["etag"]
    send = partial(operation.call, client, places=things.places, members=things.members)
    for other in ({"If-Match": '"998"'}, {"If-Match": tag, "If-None-Match": tag}):
        refused = send(headers | other)
        assert (refused.status_code, problem(refused)) == (412, "version-mismatch")
    assert client.get(url, headers=headers).headers["etag"] == tag

    answers = together(*[partial(send, headers | {"If-Match": tag})] * 2)

    statuses = [answer.status_code for answer in answers if isinstance(answer, httpx.Response)]
    # What was deleted has no version any more, but a part of something leaves the rest.
    is_gone = operation.method == "DELETE" and changed_by(operation).path == operation.path
    late = 404 if is_gone else 412
    assert sorted(statuses) == [operation.success, late]


@pytest.mark.parametrize("form", [", {}", "{},", ',, "a,," , ,  {},,', "{}   ,W/{}"])
def test_empty_members_of_a_list_of_tags_are_ignored(client: httpx.Client, form: str) -> None:
    tag = client.get("/openapi.json").headers["etag"]
    sent, other = (form.replace("{}", each) for each in (tag, '"b"'))
    for header, value, status in (
        *(("If-None-Match", sent, 304), ("If-None-Match", other, 200)),
        *(("If-Match", sent, 200), ("If-Match", other, 412), ("If-Match", ",", 400)),
    ):
        answer = client.get("/openapi.json", headers={header: value})
        assert answer.status_code == status


def test_every_conditional_change_is_tested() -> None:
    assert {each.id for each in CHANGES} >= {
        *("update_order", "pay_order", "ship_order", "deliver_order", "refund_order"),
        *(
            "cancel_order",
            "return_order",
            "reduce_order",
            "create_stock_adjustment",
            "update_product",
            "delete_product",
        ),
        *("update_user", "delete_user", "sign_out_user", "update_profile"),
    }

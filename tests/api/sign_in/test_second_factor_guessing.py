"""Codes work once and briefly, and guessing them is limited."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy.orm import Session

from models.access.authenticator_app import SecondFactor
from models.identity.user import User
from tests.api.accounts import token_for
from tests.api.answers import comparable, problem
from tests.api.authenticators import (
    SecondFactorClock,
    challenge,
    challenges,
    complete,
    confirm,
    disable,
    enrol,
    enrolled,
    state,
)
from tests.authenticator import Authenticator
from tests.factories import make_account
from tests.service import Service

pytestmark = [pytest.mark.mission("M13"), pytest.mark.mission("M22"), pytest.mark.mission("M25")]

AT_ONCE = 20
MINUTE = 60


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SecondFactorClock:
    return SecondFactorClock(monkeypatch)


def with_app(service: Service) -> tuple[User, Authenticator]:
    user = make_account(service)
    return user, enrolled(service, user)


def attempt(service: Service, client: httpx.Client, user: User, code: str) -> httpx.Response:
    """Complete a sign-in of its own with a code."""
    [waiting] = challenges(service, user, 1)
    return complete(client, waiting, code)


def all_at_once(
    service: Service, client: httpx.Client, user: User, codes: list[str]
) -> list[httpx.Response]:
    """Complete a sign-in with each code, all at the same moment."""
    waiting = challenges(service, user, len(codes))
    with ThreadPoolExecutor(len(codes)) as pool:
        return list(pool.map(complete, [client] * len(codes), waiting, codes))


def failures(service: Service, user: User) -> int:
    def read(session: Session) -> int:
        return session.get_one(SecondFactor, user.id).failures

    return service.app.database.transact(read, write=False)


def guess(service: Service, client: httpx.Client, user: User, code: str, times: int) -> None:
    for _ in range(times):
        answer = attempt(service, client, user, code)
        assert (answer.status_code, problem(answer)) == (403, "wrong-code")


@pytest.mark.parametrize(
    ("steps", "status"), [(-3, 403), (-2, 403), (-1, 200), (0, 200), (1, 200), (2, 403)]
)
def test_a_code_is_valid_one_step_before_and_after(
    service: Service, client: httpx.Client, steps: int, status: int
) -> None:
    user, app = with_app(service)
    assert attempt(service, client, user, app.code(steps=steps)).status_code == status


def test_a_code_works_once(
    service: Service, client: httpx.Client, clock: SecondFactorClock
) -> None:
    user, app = with_app(service)
    code = app.code()
    assert attempt(service, client, user, code).status_code == 200
    assert problem(attempt(service, client, user, code)) == "wrong-code"
    clock.go_on(30)
    assert problem(attempt(service, client, user, code)) == "wrong-code"
    assert attempt(service, client, user, app.code()).status_code == 200


def test_a_confirming_code_cannot_be_reused_to_sign_in(
    service: Service, client: httpx.Client
) -> None:
    user = make_account(service, verified=True)
    token = token_for(service, user)
    app = Authenticator(enrol(client, token).json()["secret"])
    assert confirm(client, token, app.code()).status_code == 200
    waiting = challenge(client, user)
    assert problem(complete(client, waiting, app.code())) == "wrong-code"
    assert complete(client, waiting, app.code(steps=1)).status_code == 200


def test_a_later_code_invalidates_earlier_ones(service: Service, client: httpx.Client) -> None:
    user, app = with_app(service)
    assert attempt(service, client, user, app.code(steps=1)).status_code == 200
    for steps in (-1, 0):
        assert problem(attempt(service, client, user, app.code(steps=steps))) == "wrong-code"


def test_concurrent_uses_of_one_code_succeed_once(service: Service, client: httpx.Client) -> None:
    user, app = with_app(service)
    answers = all_at_once(service, client, user, [app.code()] * AT_ONCE)
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * (AT_ONCE - 1)
    # They were no guesses, and the owner is not kept waiting for them.
    assert failures(service, user) == 0
    assert attempt(service, client, user, app.code(steps=1)).status_code == 200


def test_a_recovery_code_works_once(service: Service, client: httpx.Client) -> None:
    user, app = with_app(service)
    assert attempt(service, client, user, app.recovery_codes[0]).status_code == 200
    assert problem(attempt(service, client, user, app.recovery_codes[0])) == "wrong-code"
    for code in app.recovery_codes[1:]:
        assert attempt(service, client, user, code).status_code == 200
    assert state(client, token_for(service, user))["recovery_codes_left"] == 0


def test_concurrent_uses_of_a_recovery_code_succeed_once(
    service: Service, client: httpx.Client
) -> None:
    user, app = with_app(service)
    answers = all_at_once(service, client, user, [app.recovery_codes[0]] * AT_ONCE)
    assert sorted(answer.status_code for answer in answers) == [200] + [403] * (AT_ONCE - 1)
    assert state(client, token_for(service, user))["recovery_codes_left"] == 9


@pytest.mark.parametrize(
    "spelled",
    [
        str.upper,
        lambda code: code.replace("-", ""),
        lambda code: code.replace("-", " ").title(),
        lambda code: f" {code} ",
    ],
    ids=["upper case", "no dashes", "spaces", "spaces around"],
)
def test_a_recovery_code_is_accepted_as_people_type_it(
    service: Service, client: httpx.Client, spelled: Callable[[str], str]
) -> None:
    user, app = with_app(service)
    assert attempt(service, client, user, spelled(app.recovery_codes[0])).status_code == 200


def test_a_code_is_accepted_as_apps_show_it(service: Service, client: httpx.Client) -> None:
    user, app = with_app(service)
    code = app.code()
    assert attempt(service, client, user, f"{code[:3]} {code[3:]}").status_code == 200


def test_after_five_guesses_even_the_right_code_is_refused(
    service: Service, client: httpx.Client, clock: SecondFactorClock
) -> None:
    user, app = with_app(service)
    waiting = challenge(client, user)
    wrong = [complete(client, waiting, app.wrong_code()) for _ in range(5)]
    refused = complete(client, waiting, app.code())
    assert refused.status_code == 403
    assert comparable(refused) == comparable(wrong[0]) == comparable(wrong[-1])
    clock.go_on(MINUTE - 1)
    assert problem(complete(client, waiting, app.code())) == "wrong-code"
    clock.go_on(1)
    assert complete(client, waiting, app.code()).status_code == 200


def test_four_wrong_codes_have_no_effect_on_the_owner(
    service: Service, client: httpx.Client
) -> None:
    user, app = with_app(service)
    for steps in (-1, 0):
        guess(service, client, user, app.wrong_code(), 4)
        assert attempt(service, client, user, app.code(steps=steps)).status_code == 200


def test_a_recovery_code_works_during_a_lock(service: Service, client: httpx.Client) -> None:
    user, app = with_app(service)
    guess(service, client, user, app.wrong_code(), 6)
    assert attempt(service, client, user, app.recovery_codes[0]).status_code == 200
    # And the authenticator is good again from then on.
    assert attempt(service, client, user, app.code()).status_code == 200


def test_continued_guessing_prolongs_the_lock(
    service: Service, client: httpx.Client, clock: SecondFactorClock
) -> None:
    user, app = with_app(service)
    guess(service, client, user, app.wrong_code(), 5)
    for minutes in (1, 2, 4, 8, 15, 15, 15):
        clock.go_on(minutes * MINUTE - 1)
        assert attempt(service, client, user, app.code()).status_code == 403
        clock.go_on(1)
        guess(service, client, user, app.wrong_code(), 1)
    clock.go_on(15 * MINUTE)
    assert attempt(service, client, user, app.code()).status_code == 200
    assert failures(service, user) == 0


def test_guesses_during_a_lock_do_not_extend_it(
    service: Service, client: httpx.Client, clock: SecondFactorClock
) -> None:
    user, app = with_app(service)
    guess(service, client, user, app.wrong_code(), 5)
    clock.go_on(MINUTE - 1)
    guess(service, client, user, app.wrong_code(), 20)
    clock.go_on(1)
    assert attempt(service, client, user, app.code()).status_code == 200


def test_concurrent_guesses_are_all_counted(service: Service, client: httpx.Client) -> None:
    user, app = with_app(service)
    answers = all_at_once(service, client, user, [app.wrong_code()] * AT_ONCE)
    assert {answer.status_code for answer in answers} == {403}
    assert failures(service, user) == 5
    assert attempt(service, client, user, app.code()).status_code == 403


def test_wrong_recovery_codes_lock_nobody_out(service: Service, client: httpx.Client) -> None:
    user, app = with_app(service)
    guess(service, client, user, "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaa", 10)
    assert attempt(service, client, user, app.code()).status_code == 200


def test_guesses_in_all_operations_are_counted_together(
    service: Service, client: httpx.Client
) -> None:
    user, app = with_app(service)
    token = token_for(service, user)
    guess(service, client, user, app.wrong_code(), 3)
    for _ in range(2):
        assert problem(disable(client, token, app.wrong_code())) == "wrong-code"
    assert problem(disable(client, token, app.code())) == "wrong-code"
    assert disable(client, token, app.recovery_codes[0]).status_code == 204

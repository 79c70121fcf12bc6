import pytest

from models.errors import IllegalTransition
from models.lifecycle import Lifecycle

LIFECYCLE = Lifecycle(
    actions={
        "open": {"edit": ("open",), "close": ("closed",), "pay": ("open", "paid")},
        "paid": {"close": ("closed",)},
        "closed": {},
    },
    automatic={"open": {"lapse": ("closed",)}},
)


def test_the_actions_of_a_state_have_an_order_and_no_automatic_one_is_among_them() -> None:
    assert LIFECYCLE.allowed("open") == ("edit", "close", "pay")
    assert LIFECYCLE.allowed("closed") == ()


def test_a_transition_leads_where_it_is_asked_to_lead() -> None:
    LIFECYCLE.check("open", "pay")
    assert LIFECYCLE.target("open", "pay", "paid") == "paid"
    assert LIFECYCLE.target("open", "pay", "open") == "open"
    assert LIFECYCLE.target("open", "lapse", "closed", automatic=True) == "closed"


@pytest.mark.parametrize(
    ("state", "action", "automatic"),
    [
        ("closed", "pay", False),
        ("paid", "pay", False),
        ("open", "lapse", False),
        ("paid", "lapse", True),
        ("open", "pay", True),
        ("open", "unheard of", False),
    ],
)
def test_what_a_state_does_not_allow_is_refused(
    state: str, action: str, *, automatic: bool
) -> None:
    with pytest.raises(IllegalTransition) as checked:
        LIFECYCLE.check(state, action, automatic=automatic)
    with pytest.raises(IllegalTransition):
        LIFECYCLE.target(state, action, "closed", automatic=automatic)

    allowed = LIFECYCLE.allowed(state)
    assert checked.value.extensions == {"state": state, "allowed_actions": allowed}


def test_a_refusal_names_the_state_the_action_and_what_is_allowed() -> None:
    with pytest.raises(IllegalTransition) as some:
        LIFECYCLE.check("paid", "edit")
    with pytest.raises(IllegalTransition) as none:
        LIFECYCLE.check("closed", "edit")

    sentence = "In the state {} the action edit is not allowed; allowed are: {}."
    assert some.value.detail == sentence.format("paid", "close")
    assert none.value.detail == sentence.format("closed", "none")


@pytest.mark.parametrize("to", ["closed", "nowhere"])
def test_a_target_that_the_action_never_has_is_a_bug(to: str) -> None:
    with pytest.raises(ValueError, match=f"pay does not lead from open to {to}"):
        LIFECYCLE.target("open", "pay", to)


def test_a_state_that_there_is_not_is_a_bug() -> None:
    with pytest.raises(KeyError):
        LIFECYCLE.check("lost", "pay")

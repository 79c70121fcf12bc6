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


def test_the_actions_of_a_state_are_ordered_and_not_automatic() -> None:
    assert LIFECYCLE.allowed("open") == ("edit", "close", "pay")
    assert LIFECYCLE.allowed("closed") == ()


def test_a_transition_leads_to_its_target() -> None:
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
def test_a_disallowed_action_is_refused(state: str, action: str, *, automatic: bool) -> None:
    with pytest.raises(IllegalTransition) as checked:
        LIFECYCLE.check(state, action, automatic=automatic)
    with pytest.raises(IllegalTransition):
        LIFECYCLE.target(state, action, "closed", automatic=automatic)

    allowed = LIFECYCLE.allowed(state)
    assert checked.value.extensions == {"state": state, "allowed_actions": allowed}


def test_a_refusal_names_state_action_and_allowed_actions() -> None:
    with pytest.raises(IllegalTransition) as some:
        LIFECYCLE.check("paid", "edit")
    with pytest.raises(IllegalTransition) as none:
        LIFECYCLE.check("closed", "edit")

    sentence = "The state {} does not allow the action edit; it allows: {}."
    assert some.value.detail == sentence.format("paid", "close")
    assert none.value.detail == sentence.format("closed", "none")


@pytest.mark.parametrize("to", ["closed", "nowhere"])
def test_an_impossible_target_is_a_bug(to: str) -> None:
    with pytest.raises(ValueError, match=f"pay does not lead from open to {to}"):
        LIFECYCLE.target("open", "pay", to)


def test_an_unknown_state_is_a_bug() -> None:
    with pytest.raises(KeyError):
        LIFECYCLE.check("lost", "pay")

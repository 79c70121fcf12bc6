"""State machines as data: states, actions and transitions."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from models.errors import IllegalTransition

S = TypeVar("S", bound=str)

Transitions: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]
"""The actions allowed in each state, and the states that each action can lead to."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The transitions of a state machine, by client actions and `automatic` actions of the service.

    An action may lead back to its starting state.
    """

    actions: Transitions
    automatic: Transitions

    def allowed(self, state: str) -> tuple[str, ...]:
        """Return the client actions allowed in a state, in the order of the contract."""
        return tuple(self.actions[state])

    def check(
        self, state: str, action: str, *, automatic: bool = False, ruled_out: Container[str] = ()
    ) -> None:
        """Check that a state allows an action. With `automatic`, check the service's own actions.

        `ruled_out` names actions that the state allows and the resource does not.

        Raises:
            IllegalTransition: The state does not allow the action, or it is ruled out.
        """
        self._targets(state, action, automatic=automatic, ruled_out=ruled_out)

    def target(self, state: str, action: str, to: S, *, automatic: bool = False) -> S:
        """Return the state `to` after checking that the action can lead to it.

        Raises:
            IllegalTransition: The state does not allow the action.
            ValueError: The action never leads from `state` to `to`. This is a bug in the caller.
        """
        if to not in self._targets(state, action, automatic=automatic):
            raise ValueError(f"{action} does not lead from {state} to {to}")
        return to

    def _targets(
        self, state: str, action: str, *, automatic: bool, ruled_out: Container[str] = ()
    ) -> tuple[str, ...]:
        actions = self.automatic.get(state, {}) if automatic else self.actions[state]
        if action in actions and action not in ruled_out:
            return actions[action]
        allowed = [each for each in self.allowed(state) if each not in ruled_out]
        raise IllegalTransition(state, action, allowed)

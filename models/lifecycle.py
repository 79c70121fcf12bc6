"""The states of a thing, and which actions lead from one to another: a state machine as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from models.errors import IllegalTransition

S = TypeVar("S", bound=str)

Transitions: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]
"""For each state the actions that it allows, and for each of these the states it may lead to."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What may be done in each state, by those who ask and by the service itself (`automatic`).

    An action may lead back to the state that it began in.
    """

    actions: Transitions
    automatic: Transitions

    def allowed(self, state: str) -> tuple[str, ...]:
        """Return the actions that somebody may take in a state, in the order of the contract."""
        return tuple(self.actions[state])

    def check(self, state: str, action: str, *, automatic: bool = False) -> None:
        """Insist that an action may be taken in a state; `automatic` ones only by the service.

        Raises:
            IllegalTransition: the state does not allow it.
        """
        self._targets(state, action, automatic=automatic)

    def target(self, state: str, action: str, to: S, *, automatic: bool = False) -> S:
        """Return the state that an action leads to, once it is sure that it may.

        Raises:
            IllegalTransition: the state does not allow the action.
            ValueError: the action never leads there from this state, so whoever asks is wrong.
        """
        if to not in self._targets(state, action, automatic=automatic):
            raise ValueError(f"{action} does not lead from {state} to {to}")
        return to

    def _targets(self, state: str, action: str, *, automatic: bool) -> tuple[str, ...]:
        actions = self.automatic.get(state, {}) if automatic else self.actions[state]
        try:
            return actions[action]
        except KeyError:
            raise IllegalTransition(state, action, self.allowed(state)) from None

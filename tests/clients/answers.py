"""What the tour makes of an answer: the client knows its type only as one of several."""

from typing import TypeVar

Answer = TypeVar("Answer")


def expect(kind: type[Answer], answer: object) -> Answer:
    """The answer, as what the contract says that it is."""
    assert isinstance(answer, kind), answer
    return answer

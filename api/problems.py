"""Handlers for the kinds of error, as HTML or JSON."""

from api.server.problem_documents import Problems, ProblemType
from models.errors import NotFound


def list_problems(problems: Problems) -> dict[str, object]:
    """List every kind of error."""
    return {"items": list(problems.types.values())}


def get_problem(problems: Problems, slug: str) -> ProblemType:
    """Return a kind of error."""
    try:
        return problems.types[slug]
    except KeyError:
        raise NotFound from None

"""HTML pages, rendered from templates."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def make_renderer() -> Callable[[str, object], str]:
    """Return a function that renders a template with a handler's result as `it`."""
    environment = Environment(
        loader=PackageLoader("api.pages"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
    )

    def render(name: str, it: object) -> str:
        return environment.get_template(name).render(it=it)

    return render

"""HTML pages, rendered from templates."""

from collections.abc import Callable

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape


def make_renderer(prefix: str) -> Callable[[str, object], str]:
    """Return a function that renders a template with a handler's result as `it`.

    Links in the templates begin with `prefix`, the path of the public URL.
    """
    environment = Environment(
        loader=PackageLoader("api.pages"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
    )

    environment.globals["prefix"] = prefix

    def render(name: str, it: object) -> str:
        return environment.get_template(name).render(it=it)

    return render

"""The environment of the templates that lie in this folder."""

from jinja2 import Environment, PackageLoader, StrictUndefined


def templates(*, escape: bool) -> Environment:
    """Returns an environment in which a name that a template does not get is an error.

    Args:
        escape: True for HTML; False for Markdown, which also keeps its last line break.
    """
    return Environment(
        loader=PackageLoader("headstart.report", "."),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escape,
    )

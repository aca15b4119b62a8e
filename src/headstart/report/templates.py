"""The environment of the templates that lie in this folder."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from headstart.progress import format_duration
from headstart.text import counted, percent, percent_range, sentence


@cache
def templates(*, escape: bool) -> Environment:
    """Returns an environment in which a name that a template does not get is an error.

    Args:
        escape: True for HTML; False for Markdown, which also keeps its last line break.
    """
    environment = Environment(
        loader=PackageLoader("headstart.report", "."),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escape,
    )
    environment.filters |= {
        "duration": format_duration,
        "percent": percent,
        "percent_range": percent_range,
        "sentence": sentence,
    }
    environment.globals["counted"] = counted
    return environment

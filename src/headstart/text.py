"""Numbers in text for people: percentages, counts and lists, written one way everywhere."""

import re
import textwrap
from collections.abc import Sequence


def percent(share: float | None, digits: int = 1) -> str:
    """Returns a share as a percentage; a dash stands for no value.

    What is neither 0 nor 1 is never rounded to 0% or 100%.

    Args:
        share: Between 0 and 1.
        digits: Decimals to show.

    Example:
        >>> percent(0.983), percent(1.0), percent(0.9999), percent(None)
        ('98.3%', '100%', '99.9%', '–')
    """
    if share is None:
        return "–"
    value = 100 * share
    if value in {0, 100}:
        return f"{value:.0f}%"
    step = 10.0**-digits
    return f"{min(max(value, step), 100 - step):.{digits}f}%"


def percent_range(interval: tuple[float, float], digits: int = 1) -> str:
    """Returns an interval of shares as percentages.

    Args:
        interval: Lower and upper bound, each between 0 and 1.
        digits: Decimals to show.

    Example:
        >>> percent_range((0.958, 0.99))
        '95.8% to 99.0%'
    """
    low, high = interval
    return f"{percent(low, digits)} to {percent(high, digits)}"


def counted(number: int, noun: str, plural: str = "") -> str:
    """Returns a number with its noun, in the singular or the plural.

    Args:
        number: Non-negative.
        noun: In the singular.
        plural: If adding an s does not make it.

    Example:
        >>> counted(1, "image"), counted(1360, "image"), counted(2, "class", "classes")
        ('1 image', '1,360 images', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def data_size(number: int) -> str:
    """Returns a number of bytes in the unit that suits it; what is not 0 is never shown as 0.

    Args:
        number: Non-negative.

    Example:
        >>> data_size(3_420_000_000), data_size(420_000), data_size(42), data_size(0)
        ('3.4 GB', '0.4 MB', '42 bytes', '0 bytes')
    """
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if number >= size / 10:
            return f"{number / size:.1f} {unit}"
    return counted(number, "byte")


def sentence(text: str) -> str:
    """Returns text with a capital and a period, as a sentence.

    Args:
        text: A clause or a sentence.

    Example:
        >>> sentence("no plateau is reached"), sentence("It levels off.")
        ('No plateau is reached.', 'It levels off.')
    """
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '!')) else '.'}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """Returns names as an English list.

    Args:
        names: In order.
        last: The word before the last name.

    Example:
        >>> listed(["crop"]), listed(["flip", "crop"]), listed(["flip", "crop", "grey"], "or")
        ('crop', 'flip and crop', 'flip, crop or grey')
    """
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} {last} {names[-1]}"


def shortened(value: object, most: int = 60) -> str:
    r"""Returns text that comes from a file or a user, in one line and cut where it is long.

    Args:
        value: Text, or anything else, which is written as `repr` does.
        most: Most characters.

    Example:
        >>> shortened("two\nlines"), shortened([1, 2]), shortened("x" * 100, most=5)
        ('two lines', '[1, 2]', 'xxxx…')
    """
    try:
        written = value if isinstance(value, str) else repr(value)
    except (ValueError, RecursionError):  # more digits than Python writes, or too deep
        return f"a {type(value).__name__}"
    line = "".join(c if c.isprintable() else " " for c in written[: 2 * most])
    return line if len(line) <= most else line[: most - 1] + "…"


def wrapped(text: str, width: int) -> str:
    """Returns text whose long lines are broken between words, for a terminal.

    Words that are longer than a line stay whole, and so does what stands in backquotes: a path or a
    command can be copied.

    Args:
        text: One or more lines.
        width: Most characters in a line.

    Example:
        >>> print(wrapped("note: run `headstart check DATA` before it", 24))
        note: run
          `headstart check DATA`
          before it
    """
    lines = []
    for line in text.split("\n"):
        if len(line) <= width:
            lines.append(line)
            continue
        whole = re.sub("`[^`]*`", lambda found: found[0].replace(" ", "\0"), line)
        parts = textwrap.wrap(
            whole,
            width,
            subsequent_indent=" " * (len(line) - len(line.lstrip()) + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [part.replace("\0", " ") for part in parts]
    return "\n".join(lines)

"""The list of backbones: where their weights are, and which of them a search would look at."""

from headstart.backbones.listing import BackboneInfo, known_backbones


def backbones(
    pattern: str | None = None, *, all: bool = False, download: bool = False
) -> list[BackboneInfo]:
    """Lists pretrained backbones; nothing is downloaded.

    Args:
        pattern: Part of a name, or a pattern with `*`. If it matches nothing in the short list,
            all models are searched.
        all: List every timm model, not only known ones and those on this machine.
        download: Whether the search in question may download weights, as `fit(download=True)`.

    Returns:
        One entry for each backbone: first those that work offline, then others by their cost.
        `screened` says whether a search that chooses its backbone would look at it, and `why` why
        not.

    Raises:
        BackboneError: If no name matches.

    Example:
        >>> import headstart
        >>> for each in headstart.backbones("lite0"):
        ...     print(each.name, each.weights, each.gmacs, each.licence, each.screened)
        tf_efficientnet_lite0 shipped 0.407 apache-2.0 True
    """
    return known_backbones(pattern, all=all, download=download)

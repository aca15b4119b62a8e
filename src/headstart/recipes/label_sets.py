"""What of a recipe makes sense where an image may have any number of labels."""

from collections.abc import Callable, Sequence

from headstart.errors import RecipeError
from headstart.methods.criterion import BinaryCrossEntropy
from headstart.methods.method import method_name
from headstart.recipes.options import FitOptions
from headstart.recipes.recipe import FAMILIES, SEARCHED, Recipe

SHIPPED = ("default", "probe", "naive")
"""Recipes by name, whose criterion nobody chose."""

RULES: tuple[tuple[str, Callable[[Recipe], bool]], ...] = (
    (
        "criterion: a softmax lets one class win; use bce or asymmetric",
        lambda r: not r.criterion.for_sets,
    ),
    (
        "metric_loss: pairs of images are alike or not by their one class; use metric_loss = none",
        lambda r: not r.metric_loss.absent,
    ),
    (
        "head: each class is known by images that have no other label; use head = linear or mlp",
        lambda r: r.head.needs_one_label,
    ),
)
"""Reasons why a recipe cannot be trained on sets of labels."""


def for_label_sets(recipe: Recipe, options: FitOptions) -> Recipe:
    """Returns the recipe with a criterion for sets of labels, unless another was set by hand.

    Args:
        recipe: Recipe for one label an image.
        options: What was asked for.

    Raises:
        RecipeError: If the recipe or an option makes no sense with several labels.

    Example:
        >>> for_label_sets(Recipe(), FitOptions(epochs=1)).criterion.name
        'bce'
    """
    if options.unlabelled is not None:
        raise RecipeError(
            "--unlabelled needs images with one label each, and these may have several. Leave it "
            "out."
        )
    return as_set_recipe(recipe, options.recipe, options.settings)


def as_set_recipe(recipe: Recipe, asked: object, settings: Sequence[str]) -> Recipe:
    """Returns the recipe with a criterion for sets of labels, unless another was set by hand.

    Args:
        recipe: Recipe for one label an image.
        asked: What it was made from: its name, a file, a recipe, or None.
        settings: Settings by hand, such as `criterion=focal`.

    Raises:
        RecipeError: If the recipe makes no sense with several labels.

    Example:
        >>> as_set_recipe(Recipe(), "naive", ()).criterion.name
        'bce'
    """
    by_hand = any(setting.startswith("criterion") for setting in settings)
    shipped = asked is None or asked in SHIPPED
    if not recipe.criterion.for_sets and not by_hand and shipped:
        smoothing = getattr(recipe.criterion, "smoothing", 0.0)
        recipe = recipe.model_copy(update={"criterion": BinaryCrossEntropy(smoothing=smoothing)})
    reasons = [reason for reason, broken in RULES if broken(recipe)]
    if reasons:
        why = "; ".join(reasons)
        raise RecipeError(f"With several labels an image, this does not work: {why}.")
    return recipe


def drawn_for_sets() -> dict[str, tuple[str, ...]]:
    """Returns the methods that a search may draw, by family, where some make no sense for sets.

    Example:
        >>> drawn_for_sets()
        {'metric_loss': ('none',), 'criterion': ('bce', 'asymmetric')}
    """
    plain = Recipe(criterion=BinaryCrossEntropy())
    found = {}
    for family in SEARCHED:
        methods = {method_name(each): each() for each in FAMILIES[family]}
        fitting = tuple(
            name
            for name, method in methods.items()
            if not any(broken(plain.model_copy(update={family: method})) for _, broken in RULES)
        )
        if len(fitting) < len(methods):
            found[family] = fitting
    return found

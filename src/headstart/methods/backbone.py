"""The backbone: the pretrained network, its weights and its resolution."""

from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field

from headstart.methods.method import Method, Range, named


class Backbone(Method):
    """Any image classification network of timm (Wightman 2019), by name."""

    advice: ClassVar[str] = (
        "A larger one helps if classes are fine-grained; a higher resolution often helps more."
    )
    name: Annotated[str, Field(min_length=1)] = "tf_efficientnet_lite0"
    weights: Annotated[
        str,
        Field(
            min_length=1,
            description="'pretrained', 'random' (from scratch), or the path of a local file",
        ),
    ] = "pretrained"
    resolution: Annotated[
        int, Field(ge=0, le=1024, description="side of a view in pixels; 0: the model's own")
    ] = 0
    drop_path: Annotated[
        float,
        Field(ge=0, lt=1, description="chance of skipping the last block (Huang et al. 2016)"),
        Range(0.0, 0.2),
    ] = 0.0


BackboneChoice = Annotated[Backbone, BeforeValidator(named)]

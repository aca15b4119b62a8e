"""What equals for networks that differ in nothing but their weights."""

import pytest
import timm
from torch import nn

from headstart.backbones.tracing import architecture


def test_other_weights_are_the_same_architecture() -> None:
    one, two = (timm.create_model("resnet18", num_classes=0) for _ in range(2))
    assert architecture(one) == architecture(two.eval())
    assert hash(architecture(one)) == hash(architecture(two))


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (nn.Dropout(0.1), nn.Dropout(0.2)),
        (nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, stride=2)),
        (nn.Linear(3, 4), nn.Linear(3, 4, bias=False)),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU6())),
        (
            timm.create_model("tf_efficientnet_lite0", drop_path_rate=0.1),
            timm.create_model("tf_efficientnet_lite0", drop_path_rate=0.2),
        ),
        (
            timm.create_model("tf_efficientnet_lite0", drop_rate=0.1),
            timm.create_model("tf_efficientnet_lite0", drop_rate=0.2),
        ),
    ],
)
def test_whatever_changes_what_is_computed_is_another(one: nn.Module, two: nn.Module) -> None:
    assert architecture(one) != architecture(two)

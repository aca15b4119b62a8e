"""One training step."""

import numpy as np
import pytest
import torch
from torch import nn

from headstart.methods.criterion import CrossEntropy
from headstart.methods.head import Linear
from headstart.methods.optimizer import SGD
from headstart.recipes.recipe import Recipe
from headstart.training.activity import Observed
from headstart.training.network import TrainableNetwork
from headstart.training.step import make_stepper, note_clipping, take_step


def test_clipped_steps_are_counted_by_the_length_of_their_gradient() -> None:
    settings = Recipe.model_validate(
        {"optimizer": SGD(lr=1e-3, clip_norm=1.0), "criterion": CrossEntropy()}
    )
    suffix, head = nn.Identity(), Linear().build((1,), 2, nn.ReLU())
    parameters = list(head.parameters())
    optimizer = settings.optimizer.build([{"params": parameters, "lr": 1e-3, "full_lr": 1e-3}])
    seen = Observed()
    network = TrainableNetwork(suffix, head)
    work = make_stepper(network, np.array([1, 1]), settings, optimizer, None, (), seen)
    # With weights of 0, the gradient of an image of value x is (-x/2, x/2) and (-1/2, 1/2): its
    # length is sqrt((x² + 1) / 2), above 1 where x is above 1.
    lengths = []
    for value in (0.5, 3.0, 0.1, 2.0):
        with torch.no_grad():
            for parameter in parameters:
                parameter.zero_()
        loss = take_step(work, torch.tensor([[value]]), torch.tensor([0]))
        assert float(loss) == pytest.approx(np.log(2))
        lengths.append(((value**2 + 1) / 2) ** 0.5)
    assert [float(norm) for norm in work.norms] == pytest.approx(lengths)
    note_clipping(work)
    assert (seen.clipped, seen.clipped_at, work.norms) == (2, 2, [])
    note_clipping(work)  # nothing new
    take_step(work, torch.tensor([[5.0]]), torch.tensor([1]))
    note_clipping(work)
    assert (seen.clipped, seen.clipped_at) == (3, 2)


@pytest.mark.parametrize("space", [(2, 3), (1, 2)])
def test_about_half_of_the_maps_are_mirrored_left_to_right(space: tuple[int, int]) -> None:
    seen, given = [], []

    class Looking(nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            seen.append(maps.clone())
            return maps.flatten(1)

    settings = Recipe.model_validate({"criterion": CrossEntropy(), "feature_flip": True})
    head = Linear().build((12,), 2, nn.ReLU())
    optimizer = settings.optimizer.build(
        [{"params": list(head.parameters()), "lr": 1e-3, "full_lr": 1e-3}]
    )
    observed = Observed()
    network = TrainableNetwork(Looking(), head)
    work = make_stepper(network, np.array([1, 1]), settings, optimizer, None, space, observed)
    for step in range(50):
        torch.manual_seed(step)
        given.append(torch.rand(4, 2, 2, 3) if space == (2, 3) else torch.rand(4, 2, 3, 2))
        take_step(work, given[-1], torch.tensor([0, 1, 0, 1]))
    maps, old = torch.cat(seen), torch.cat(given)
    flipped = old.flip(space[1])
    mirrored = (maps == flipped).flatten(1).all(1).numpy()
    same = (maps == old).flatten(1).all(1).numpy()
    assert (mirrored ^ same).all(), "each map is whole: itself or its mirror image"
    assert 80 <= mirrored.sum() <= 120, "200 draws with probability 1/2"
    assert (observed.offered, observed.mirrored) == (200, mirrored.sum())
    assert observed.mirrored_at == 1 + np.flatnonzero(mirrored)[0] // 4

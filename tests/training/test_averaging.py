import torch
from torch import nn

from headstart.methods.averaging import SWA, GreedySoup
from headstart.methods.head import Linear
from headstart.training.activity import Observed
from headstart.training.averaging import (
    begin_path,
    finish_path,
    follow,
    go_on,
    keep_epoch,
    use_average,
)


def parts() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return nn.BatchNorm1d(64), Linear().build((64,), 3, nn.ReLU())


def test_a_soup_leaves_what_did_not_move_alone_to_the_last_bit() -> None:
    """The mean of three equal floats is, as computed, not always that float."""
    suffix, head = parts()
    suffix.running_mean.normal_()  # type: ignore[union-attr, operator]
    frozen = suffix.running_mean.clone()  # type: ignore[union-attr, operator]
    assert not torch.equal(torch.stack([frozen] * 7).mean(0), frozen), "or this shows nothing"
    path, seen = begin_path(GreedySoup(), suffix, head), Observed()
    weight = head.out[1].weight  # type: ignore[index, union-attr]
    for epoch in range(7):
        with torch.no_grad():
            weight.fill_(float(epoch))
        use_average(path, seen)
        keep_epoch(path, 1.0)
        go_on(path)
    finish_path(path, lambda: 1.0, seen)
    assert seen.ingredients == list(range(7))
    assert torch.equal(suffix.running_mean, frozen)  # type: ignore[arg-type]
    assert torch.allclose(weight, torch.full_like(weight, 3.0))


def test_the_mean_of_swa_begins_at_its_share_and_the_path_goes_on_from_the_raw_weights() -> None:
    suffix, head = parts()
    path, seen = begin_path(SWA(start=0.5), suffix, head), Observed()
    weight = head.out[1].weight  # type: ignore[index, union-attr]
    for step in range(6):
        with torch.no_grad():
            weight.fill_(float(step))
        seen.steps = step + 1
        follow(path, step / 6, 6, seen)
    use_average(path, seen)
    assert torch.allclose(weight, torch.full_like(weight, 4.0))  # the mean of 3, 4 and 5
    assert seen.averaged_at == 4
    go_on(path)
    assert torch.equal(weight, torch.full_like(weight, 5.0))

"""Each method's own mathematics, against values worked out by hand or by a plain loop."""

import math
from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from headstart.methods.activation import Keep, LeakyReLU, Mish, Swish, head_activation
from headstart.methods.augmentation import (
    AutoAugment,
    FlipCrop,
    NoAugmentation,
    RandAugment,
    TrivialAugment,
    cutout_box,
)
from headstart.methods.averaging import EMA, SWA, GreedySoup, NoAveraging
from headstart.methods.batch_mixing import CutMix, Mix, MixUp, NoMixing, apply_mix
from headstart.methods.criterion import (
    Asymmetric,
    BinaryCrossEntropy,
    CrossEntropy,
    Focal,
    LabelSmoothing,
)
from headstart.methods.freezing import LPFT, Full, Gradual, LastBlocks
from headstart.methods.head import MLP, Cosine, Linear, NearestNeighbours
from headstart.methods.head_layers import UnitParts, applied
from headstart.methods.metric_loss import (
    ArcFace,
    Contrastive,
    NoMetricLoss,
    SupervisedContrastive,
    Triplet,
)
from headstart.methods.optimizer import SGD, Adam, AdamW, RAdam, Ranger

LOGITS = torch.tensor([[1.0, 2.0, 0.5]])
SECOND = torch.tensor([[0.0, 1.0, 0.0]])
EVEN = torch.tensor([1, 1, 1])
GREY = (128, 128, 128)
CPU = torch.device("cpu")


def log_softmax(logits: list[float]) -> list[float]:
    total = math.log(sum(math.exp(value) for value in logits))
    return [value - total for value in logits]


def test_activations_at_one_and_minus_one() -> None:
    x = torch.tensor([1.0, -1.0])
    mish = [v * math.tanh(math.log(1 + math.exp(v))) for v in (1.0, -1.0)]
    assert Mish().build()(x).tolist() == pytest.approx(mish)
    assert mish[0] == pytest.approx(0.8651, abs=1e-4)  # Misra (2020)
    swish = [v / (1 + math.exp(-v)) for v in (1.0, -1.0)]
    assert Swish().build()(x).tolist() == pytest.approx(swish)
    assert LeakyReLU(slope=0.1).build()(x).tolist() == pytest.approx([1.0, -0.1])
    assert Keep().build()(x).tolist() == [1.0, 0.0]


def test_a_head_has_the_activation_that_is_meant_for_heads() -> None:
    kinds = {
        where: type(head_activation(Mish(where=where))) for where in ("suffix", "head", "both")
    }
    assert kinds == {"suffix": nn.ReLU, "head": nn.Mish, "both": nn.Mish}
    assert type(head_activation(Keep())) is nn.ReLU


def test_cross_entropy() -> None:
    expected = -log_softmax([1.0, 2.0, 0.5])[1]
    assert float(CrossEntropy().build(EVEN)(LOGITS, SECOND)) == pytest.approx(expected)


def test_cross_entropy_of_a_mixed_example() -> None:
    logs = log_softmax([1.0, 2.0, 0.5])
    mixed = torch.tensor([[0.3, 0.7, 0.0]])
    expected = -(0.3 * logs[0] + 0.7 * logs[1])
    assert float(CrossEntropy().build(EVEN)(LOGITS, mixed)) == pytest.approx(expected)


def test_label_smoothing() -> None:
    logs = log_softmax([1.0, 2.0, 0.5])
    expected = -(0.9 * logs[1] + 0.1 / 3 * sum(logs))
    criterion = LabelSmoothing(smoothing=0.1).build(EVEN)
    assert float(criterion(LOGITS, SECOND)) == pytest.approx(expected)


def test_each_label_is_a_decision_of_its_own() -> None:
    logits, both = torch.tensor([[1.0, 2.0, -0.5]]), torch.tensor([[1.0, 0.0, 1.0]])
    p = [1 / (1 + math.exp(-z)) for z in (1.0, 2.0, -0.5)]
    expected = -(math.log(p[0]) + math.log(1 - p[1]) + math.log(p[2]))
    plain = BinaryCrossEntropy(smoothing=0).build(EVEN)
    assert float(plain(logits, both)) == pytest.approx(expected)
    smoothed = [
        0.95 * math.log(a) + 0.05 * math.log(b)
        for a, b in ((p[0], 1 - p[0]), (1 - p[1], p[1]), (p[2], 1 - p[2]))
    ]
    criterion = BinaryCrossEntropy(smoothing=0.1).build(EVEN)
    assert float(criterion(logits, both)) == pytest.approx(-sum(smoothed))
    surely = torch.tensor([[200.0, -200.0, 0.0]])
    assert float(plain(surely, torch.tensor([[1.0, 0.0, 0.0]]))) == pytest.approx(math.log(2))
    rare = BinaryCrossEntropy(smoothing=0, class_weights="balanced").build(torch.tensor([1, 3, 2]))
    weights = [6 / (3 * n) for n in (1, 3, 2)]
    terms = [-math.log(p[0]), -math.log(1 - p[1]), -math.log(p[2])]
    wanted = sum(w * t for w, t in zip(weights, terms, strict=True))
    assert float(rare(logits, both)) == pytest.approx(wanted)


def test_asymmetric_loss() -> None:
    logits = torch.tensor([[1.0, 2.0, -4.0]], requires_grad=True)
    p = [1 / (1 + math.exp(-z)) for z in (1.0, 2.0, -4.0)]
    lowered = p[1] - 0.05  # the third is below the margin: it adds nothing
    expected = -(1 - p[0]) * math.log(p[0]) - lowered**4 * math.log(1 - lowered)
    criterion = Asymmetric(gamma_present=1, gamma_absent=4, margin=0.05).build(EVEN)
    loss = criterion(logits, torch.tensor([[1.0, 0.0, 0.0]]))
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert float(logits.grad[0, 2]) == 0
    same = Asymmetric(gamma_present=0, gamma_absent=0, margin=0).build(EVEN)
    plain = BinaryCrossEntropy(smoothing=0).build(EVEN)
    assert float(same(LOGITS, SECOND)) == pytest.approx(float(plain(LOGITS, SECOND)))


def test_focal_loss() -> None:
    log_p = log_softmax([1.0, 2.0, 0.5])[1]
    expected = -((1 - math.exp(log_p)) ** 2) * log_p
    assert float(Focal(gamma=2).build(EVEN)(LOGITS, SECOND)) == pytest.approx(expected)
    plain = CrossEntropy().build(EVEN)(LOGITS, SECOND)
    assert float(Focal(gamma=0).build(EVEN)(LOGITS, SECOND)) == pytest.approx(float(plain))


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_focal_loss_of_what_is_surely_right_has_a_gradient(gamma: float) -> None:
    logits = torch.tensor([[0.0, 200.0, 0.0]], requires_grad=True)
    Focal(gamma=gamma).build(EVEN)(logits, SECOND).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_balanced_weights_are_those_of_torch() -> None:
    counts = torch.tensor([6, 2, 4])
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 1, 0])
    weights = 12 / (3 * counts.float())  # n / (classes * count): 2/3, 2, 1
    expected = nn.functional.cross_entropy(logits, labels, weight=weights)
    found = CrossEntropy(class_weights="balanced").build(counts)(logits, torch.eye(3)[labels])
    assert float(found) == pytest.approx(float(expected))


def test_adamw_first_step_is_the_rate_and_decay_is_decoupled() -> None:
    weight = torch.nn.Parameter(torch.tensor([2.0]))
    optimizer = AdamW(lr=0.1).build([{"params": [weight], "lr": 0.1, "weight_decay": 0.5}])
    (3 * weight).sum().backward()
    optimizer.step()
    # Bias-corrected moments of the first gradient give a step of lr; decay takes lr * 0.5 of 2.
    assert float(weight.detach()) == pytest.approx(2.0 - 0.1 * 0.5 * 2.0 - 0.1, abs=1e-5)


def test_sgd_with_nesterov_momentum() -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0]))
    method = SGD(lr=0.1, momentum=0.9, nesterov=True)
    optimizer = method.build([{"params": [weight], "lr": 0.1, "weight_decay": 0.0}])
    for _ in range(2):
        optimizer.zero_grad()
        (2 * weight).sum().backward()
        optimizer.step()
    # v1 = 2, step 2 + .9 * 2 = 3.8; v2 = .9 * 2 + 2 = 3.8, step 2 + .9 * 3.8 = 5.42
    assert float(weight.detach()) == pytest.approx(1.0 - 0.1 * 3.8 - 0.1 * 5.42)


def test_ema_decay() -> None:
    ema = EMA(half_life=0.1)
    assert ema.decay(0, 1000) == pytest.approx(0.1)
    assert ema.decay(8, 1000) == pytest.approx(0.5)
    # After a tenth of all steps a weight has lost half of its share.
    assert ema.decay(10_000, 1000) ** 100 == pytest.approx(0.5)
    assert NoAveraging().decay(5, 10) == 0.0


def test_swa_is_the_plain_mean_of_what_it_sees() -> None:
    average, values = 0.0, [4.0, 1.0, 7.0, 2.0]
    for step, value in enumerate(values):
        decay = SWA().decay(step, 100)
        average = decay * average + (1 - decay) * value
        assert average == pytest.approx(np.mean(values[: step + 1]))


def test_greedy_soup_keeps_what_does_not_hurt() -> None:
    # Ingredients on a line, the best point at 2: their losses are the distances from it.
    places = [5.0, 1.5, 9.0, 2.4]

    def mean(numbers: list[int]) -> float:
        return float(np.mean([places[number] for number in numbers]))

    def loss(place: float) -> float:
        return abs(place - 2)

    soup, chosen = GreedySoup().cook([loss(place) for place in places], mean, loss)
    # 2.4 is best; with 1.5 the mean is 1.95; 5 and 9 would lead away.
    assert chosen == [3, 1]
    assert soup == pytest.approx(1.95)


def solve(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    width = embeddings.shape[1]
    return torch.arange(2 * width).reshape(2, width).float(), torch.tensor([0.5, -0.5])


def test_linear_head_takes_a_probe() -> None:
    method = Linear()
    head = method.build((2,), 2, nn.ReLU())
    method.start(head, torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]), solve)
    output = head.eval()(torch.tensor([[1.0, -1.0]]))
    assert output.tolist() == [[-1 + 0.5, -1 - 0.5]]


def test_unit_parts_have_one_length_each_and_a_mean_square_of_one() -> None:
    parts = UnitParts((2, 3))
    found = parts(torch.tensor([[3.0, 4.0, 0.0, 0.0, 0.1], [0.0, 1e3, 1.0, 2.0, 2.0]]))
    length = math.sqrt(5 / 2)
    expected = [[0.6, 0.8, 0.0, 0.0, 1.0], [0.0, 1.0, 1 / 3, 2 / 3, 2 / 3]]
    torch.testing.assert_close(found, length * torch.tensor(expected))
    assert float(found.square().mean()) == pytest.approx(1.0)


@pytest.mark.parametrize("rows", [1, 1024, 2500])
def test_a_layer_is_applied_in_parts_with_the_same_result(rows: int) -> None:
    torch.manual_seed(0)
    layer, some = nn.Sequential(UnitParts((2, 3)), nn.Linear(5, 4)), torch.randn(rows, 5)
    found = applied(layer, some)
    torch.testing.assert_close(found, layer(some).detach())
    assert not found.requires_grad
    assert not found.is_inference()
    assert applied(nn.Identity(), some) is some


@pytest.mark.parametrize("method", [Linear, MLP, Cosine, NearestNeighbours])
def test_parts_are_of_one_length_where_it_is_asked_for_or_there_is_a_covariance(
    method: type[Linear],
) -> None:
    assert not method().has_unit_parts
    assert not method(features="stages").has_unit_parts
    assert method(features="stages+covariance").has_unit_parts
    assert method(features="stages", normalize="unit").has_unit_parts
    assert not method(features="last+covariance", normalize="none").has_unit_parts
    torch.manual_seed(0)
    head = method(features="stages", normalize="unit").build((2, 3), 2, nn.ReLU())
    some = torch.rand(4, 5)
    method(features="stages", normalize="unit").start(
        head.eval(), some, torch.tensor([0, 1, 0, 1]), solve
    )
    louder = some * torch.tensor([7.0, 7.0, 0.1, 0.1, 0.1])
    torch.testing.assert_close(head(louder), head(some))


def test_mlp_head_solves_its_last_layer_on_its_hidden_one() -> None:
    method = MLP(hidden=4, dropout=0.5)
    torch.manual_seed(0)
    head = method.build((3,), 2, Mish().build())
    features = torch.randn(5, 3)
    seen = []

    def note(embeddings: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(embeddings)
        return solve(embeddings)

    method.start(head.eval(), features, torch.tensor([0, 1, 0, 1, 0]), note)
    hidden = head.embed[0]  # type: ignore[index]
    expected = nn.functional.mish(features @ hidden.weight.T + hidden.bias)
    torch.testing.assert_close(seen[0], expected.detach())
    torch.testing.assert_close(
        head(features), expected @ solve(expected)[0].T + torch.tensor([0.5, -0.5])
    )


def test_cosine_head_is_imprinted_with_mean_directions() -> None:
    method = Cosine(scale=10)
    head = method.build((2,), 2, nn.ReLU()).eval()
    features = torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 3.0], [3.0, 3.0]])
    method.start(head, features, torch.tensor([0, 0, 1, 1]), solve)
    logits = head(torch.tensor([[7.0, 0.0]]))
    # Class 1 lies between 90 and 45 degrees: the mean of both unit vectors is at 67.5 degrees.
    assert logits[0].tolist() == pytest.approx([10.0, 10 * math.cos(math.radians(67.5))])


def test_a_class_without_an_image_stays_at_random_in_a_cosine_head() -> None:
    torch.manual_seed(0)
    head = Cosine(scale=10).build((2,), 3, nn.ReLU()).eval()
    built = deepcopy(head.out[1].weight)  # type: ignore[index]
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    Cosine(scale=10).start(head, features, torch.tensor([0, 2]), solve)
    weight = head.out[1].weight  # type: ignore[index]
    assert weight.tolist() == [[1.0, 0.0], built[1].tolist(), [0.0, 1.0]]
    assert head(features).isfinite().all()


def test_nearest_neighbours_vote_by_similarity() -> None:
    method = NearestNeighbours(k=3, temperature=0.5)
    head = method.build((2,), 2, nn.ReLU())
    angles = [0, 60, 90, 180]
    features = torch.tensor(
        [[math.cos(math.radians(a)), math.sin(math.radians(a))] for a in angles]
    )
    method.start(head, 4 * features, torch.tensor([0, 1, 1, 0]), solve)
    votes = [math.exp(math.cos(math.radians(a)) / 0.5) for a in (0, 60, 90)]  # the nearest three
    expected = [votes[0] / sum(votes), (votes[1] + votes[2]) / sum(votes)]
    shares = head(torch.tensor([[9.0, 0.0]])).exp()[0]
    assert shares.tolist() == pytest.approx([each + 1e-3 for each in expected], rel=1e-4)


def test_adam_first_step_is_the_rate_and_decay_is_in_the_gradient() -> None:
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = Adam(lr=0.1).build([{"params": [weight], "lr": 0.1, "weight_decay": 0.5}])
    (3 * weight).sum().backward()
    optimizer.step()
    # The gradient is 3 + 0.5 * 2; whatever its size, the first step is the rate.
    assert float(weight.detach()) == pytest.approx(1.9, abs=1e-5)


def radam_by_hand(gradients: list[float], lr: float, beta1: float, beta2: float) -> float:
    """Liu et al. (2020), algorithm 2, from 0 and without decay."""
    weight = m = v = 0.0
    longest = 2 / (1 - beta2) - 1
    for t, g in enumerate(gradients, start=1):
        v = beta2 * v + (1 - beta2) * g * g
        m = beta1 * m + (1 - beta1) * g
        unbiased = m / (1 - beta1**t)
        rho = longest - 2 * t * beta2**t / (1 - beta2**t)
        if rho > 5:  # torch's threshold; the paper has 4
            adaptive = math.sqrt((1 - beta2**t) / v)
            rectified = math.sqrt(
                (rho - 4) * (rho - 2) * longest / ((longest - 4) * (longest - 2) * rho)
            )
            weight -= lr * unbiased * rectified * adaptive
        else:
            weight -= lr * unbiased
    return weight


def steps(method: RAdam | Ranger, gradients: list[float]) -> list[float]:
    weight = nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
    optimizer = method.build([{"params": [weight], "lr": method.lr, "weight_decay": 0.0}])
    path = []
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        path.append(float(weight.detach()))
    return path


def test_radam_first_steps() -> None:
    gradients = [1.0, -2.0, 3.0, 0.5, 1.5, -1.0, 2.0, 0.7]
    path = steps(RAdam(lr=0.1), gradients)
    for number in (1, 5, 6, 8):  # momentum alone at first, rectified from the sixth on
        expected = radam_by_hand(gradients[:number], 0.1, 0.9, 0.999)
        assert path[number - 1] == pytest.approx(expected, rel=1e-6)


def test_ranger_looks_ahead_every_few_steps() -> None:
    gradients = [1.0] * 6
    fast = steps(RAdam(lr=0.1, beta1=0.95), gradients)
    slow = steps(Ranger(lr=0.1, beta1=0.95, sync_every=3, pull=0.5), gradients)
    assert slow[:2] == pytest.approx(fast[:2])
    # Slow weights began at 0 and go half of the way to the fast ones.
    assert slow[2] == pytest.approx(0.5 * fast[2])
    # From there on the steps are the same, and are halved again at the sixth.
    assert slow[4] - slow[2] == pytest.approx(fast[4] - fast[2])
    assert slow[5] - slow[2] == pytest.approx(0.5 * (fast[5] - fast[2]))


def test_mixup_mixes_values_and_labels_alike() -> None:
    batch = torch.tensor([[0.0, 10.0], [4.0, 2.0]])
    mix = Mix(torch.tensor([1, 0]), 0.75)
    mixed, targets, share = apply_mix(batch, torch.eye(2), mix, ())
    assert mixed.tolist() == [[1.0, 8.0], [3.0, 4.0]]
    assert targets.tolist() == [[0.75, 0.25], [0.25, 0.75]]
    assert share == 0.75


@pytest.mark.parametrize("layout", ["channels first", "channels last"])
def test_cutmix_pastes_a_box_and_shares_labels_by_its_rounded_area(layout: str) -> None:
    first, last = torch.zeros(2, 3, 8, 10), torch.zeros(2, 8, 10, 3)
    batch, space = (first, (2, 3)) if layout == "channels first" else (last, (1, 2))
    batch = batch.to(torch.uint8)
    batch[1] = 1
    # Rows 0.24 * 8 = 1.92 to 0.8 * 8 = 6.4, columns 0.33 * 10 to 0.68 * 10: rounded 2..6, 3..7.
    mix = Mix(torch.tensor([1, 0]), 0.0, (0.24, 0.33, 0.8, 0.68))
    mixed, targets, share = apply_mix(batch, torch.eye(2), mix, space)
    expected = torch.zeros(8, 10)
    for row in range(2, 6):
        for column in range(3, 7):
            expected[row, column] = 1
    plane = mixed[0, 0] if layout == "channels first" else mixed[0, :, :, 0]
    assert torch.equal(plane.float(), expected)
    assert mixed.dtype == torch.uint8
    assert share == pytest.approx(1 - 16 / 80)
    assert targets[0].tolist() == pytest.approx([0.8, 0.2])
    assert int(batch[0].sum()) == 0, "the batch itself is left alone"


def test_the_same_box_fits_every_size_of_map() -> None:
    mix = Mix(torch.tensor([1, 0]), 0.0, (0.25, 0.5, 0.75, 1.0))
    shares = []
    for side in (4, 8, 224):
        batch = torch.stack([torch.zeros(1, side, side), torch.ones(1, side, side)])
        mixed, _, share = apply_mix(batch, torch.eye(2), mix, (2, 3))
        assert float(mixed[0].mean()) == pytest.approx(1 - share)
        shares.append(share)
    assert shares == pytest.approx([0.75] * 3)


def test_mixing_is_drawn_with_its_probability_and_distribution() -> None:
    random = np.random.default_rng(0)
    assert NoMixing().draw(4, random) is None
    drawn = [MixUp(alpha=0.4, probability=0.5).draw(4, random) for _ in range(2000)]
    shares = [mix.share for mix in drawn if mix is not None]
    assert len(shares) == pytest.approx(1000, abs=80)
    # Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
    assert np.mean(shares) == pytest.approx(0.5, abs=0.03)
    assert np.var(shares) == pytest.approx(1 / (4 * 1.8), abs=0.02)
    boxes = [CutMix(probability=1).draw(4, random) for _ in range(500)]
    for mix in boxes:
        assert mix is not None
        assert mix.box is not None
        top, left, bottom, right = mix.box
        assert 0 <= top <= bottom <= 1
        assert 0 <= left <= right <= 1
        assert mix.share == pytest.approx(1 - (bottom - top) * (right - left))


def unit(degrees: list[float]) -> torch.Tensor:
    radians = [math.radians(each) for each in degrees]
    return torch.tensor([[math.cos(each), math.sin(each)] for each in radians])


ANGLES, LABELS = [0.0, 30.0, 50.0, 170.0], [0, 0, 1, 1]


def distances() -> list[list[float]]:
    return [[2 * math.sin(math.radians(abs(a - b)) / 2) for b in ANGLES] for a in ANGLES]


def pairs(same: bool) -> list[tuple[int, int]]:
    every = [(a, b) for a in range(4) for b in range(4) if a != b]
    return [(a, b) for a, b in every if (LABELS[a] == LABELS[b]) == same]


def test_contrastive_loss_of_a_tiny_batch() -> None:
    d = distances()
    near = [d[a][b] for a, b in pairs(same=True)]
    far = [max(0.0, 1.0 - d[a][b]) for a, b in pairs(same=False)]
    mean = [sum(part) / max(1, sum(value > 0 for value in part)) for part in (near, far)]
    value, count = (
        Contrastive(negative_margin=1.0)
        .build(2, 2, CPU)
        .loss(3 * unit(ANGLES), torch.tensor(LABELS))
    )
    assert float(value) == pytest.approx(sum(mean), rel=1e-4)
    assert count == 4


def triplets(kind: str, margin: float) -> list[float]:
    """The violations of all triplets, of the semi-hard ones, or of each anchor's hardest."""
    d, found = distances(), []
    for a in range(4):
        positives = [d[a][p] for x, p in pairs(same=True) if x == a]
        negatives = [d[a][n] for x, n in pairs(same=False) if x == a]
        if kind == "batch_hard":
            positives, negatives = [max(positives)], [min(negatives)]
        gaps = [n - p for p in positives for n in negatives]
        found += [margin - gap for gap in gaps if kind != "semi_hard" or 0 < gap <= margin]
    return [each for each in found if each > 0]


@pytest.mark.parametrize("miner", ["all", "semi_hard", "batch_hard"])
def test_triplet_loss_of_a_tiny_batch(miner: str) -> None:
    margin = 0.4
    violations = triplets(miner, margin)
    term = Triplet(margin=margin, miner=miner).build(2, 2, CPU)
    value, _ = term.loss(unit(ANGLES), torch.tensor(LABELS))
    assert float(value) == pytest.approx(sum(violations) / max(1, len(violations)), rel=1e-4)


def test_supervised_contrastive_loss_of_a_tiny_batch() -> None:
    t, losses = 0.5, []
    for a in range(4):
        similar = {b: math.cos(math.radians(ANGLES[a] - ANGLES[b])) / t for b in range(4) if b != a}
        total = math.log(sum(math.exp(value) for value in similar.values()))
        own = [similar[b] - total for x, b in pairs(same=True) if x == a]
        losses.append(-sum(own) / len(own))
    term = SupervisedContrastive(temperature=t).build(2, 2, CPU)
    value, _ = term.loss(unit(ANGLES), torch.tensor(LABELS))
    assert float(value) == pytest.approx(sum(losses) / 4, rel=1e-4)


def test_arcface_adds_its_margin_to_the_true_angle() -> None:
    term = ArcFace(margin=10, scale=4).build(2, 2, CPU)
    (centres,) = term.parameters
    with torch.no_grad():
        centres.copy_(
            torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        )  # columns: classes at 0 and 90 degrees
    value, count = term.loss(5 * unit([30.0]), torch.tensor([0]))
    logits = [4 * math.cos(math.radians(30 + 10)), 4 * math.cos(math.radians(60))]
    assert float(value.detach()) == pytest.approx(-log_softmax(logits)[0], rel=1e-4)
    assert count == 1


def test_no_metric_loss() -> None:
    assert NoMetricLoss().build(2, 2, CPU) is None


def test_when_blocks_begin_to_train() -> None:
    assert LastBlocks().starts(3) == Full().starts(3) == [0.0] * 3
    assert LPFT(head_share=0.25).starts(2) == [0.25, 0.25]
    # The last block first, the one nearest the input at `until`.
    assert Gradual(until=0.6).starts(3) == pytest.approx([0.6, 0.4, 0.2])


def test_cutout_squares_are_cut_off_at_the_borders() -> None:
    assert cutout_box(4, (5, 6), 10) == (3, 4, 7, 8)
    assert cutout_box(4, (0, 9), 10) == (0, 7, 2, 10)


def test_cutout_blanks_a_square() -> None:
    white = Image.new("RGB", (40, 40), "white")
    augment = FlipCrop(flip=False, min_area=1, stretch=1, cutout=0.25).build(40, "bilinear", GREY)
    torch.manual_seed(0)
    areas = []
    for _ in range(40):
        blank = (np.asarray(augment(white)) == 128).all(2)
        rows, columns = np.flatnonzero(blank.any(1)), np.flatnonzero(blank.any(0))
        assert blank[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        areas.append(int(blank.sum()))
    assert max(areas) == 100
    assert min(areas) < 100, "its centre may be at the border"
    assert np.asarray(white).min() == 255, "the image itself is left alone"


def test_auto_augment_and_rand_augment_change_pictures_as_often_as_they_are_told() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    plain = {"flip": False, "min_area": 1.0, "stretch": 1.0}

    def changed(method: AutoAugment | RandAugment | TrivialAugment) -> int:
        augment = method.build(64, "bilinear", GREY)
        torch.manual_seed(0)
        views = [np.asarray(augment(Image.fromarray(noise))) for _ in range(40)]
        return sum(not np.array_equal(view, noise) for view in views)

    assert changed(AutoAugment(**plain)) >= 25
    assert 0 < changed(AutoAugment(**plain, strength=0.2)) <= 15
    assert 0 < changed(TrivialAugment(**plain, strength=0.2)) <= 15
    assert changed(RandAugment(**plain, operations=3)) >= 35


def test_rand_augment_turns_farther_the_stronger_it_is() -> None:
    from torchvision.transforms import v2

    for strength, magnitude in ((0.3, 9), (1.0, 30)):
        view = RandAugment(strength=strength).build(64, "bilinear", GREY)
        (policy,) = [each for each in view.transforms if isinstance(each, v2.RandAugment)]  # type: ignore[attr-defined]
        assert policy.magnitude == magnitude


def test_vertical_flips() -> None:
    ramp = np.tile(np.arange(0, 250, 5, dtype=np.uint8)[:, None, None], (1, 50, 3))
    augment = FlipCrop(flip=False, vertical_flip=True, min_area=1, stretch=1).build(
        50, "bilinear", GREY
    )
    torch.manual_seed(0)
    tops = {int(np.asarray(augment(Image.fromarray(ramp)))[0, 0, 0]) for _ in range(20)}
    assert tops == {0, 245}


def test_flip_happens_only_where_it_is_allowed() -> None:
    ramp = np.tile(np.arange(0, 250, 5, dtype=np.uint8)[None, :, None], (50, 1, 3))
    image = Image.fromarray(ramp)
    torch.manual_seed(0)
    for flip, expected in ((True, {True, False}), (False, {False})):
        augment = FlipCrop(flip=flip, min_area=1.0, stretch=1.0).build(32, "bilinear", GREY)
        views = [np.asarray(augment(image))[:, :, 0].astype(int) for _ in range(20)]
        assert {bool(view[0, 0] > view[0, -1]) for view in views} == expected


def test_crop_shows_at_least_the_smallest_area() -> None:
    columns = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (200, 1, 3))
    image = Image.fromarray(columns)
    augment = FlipCrop(flip=False, min_area=0.49, stretch=1.0).build(64, "bilinear", GREY)
    torch.manual_seed(0)
    for _ in range(30):
        view = np.asarray(augment(image))[:, :, 0].astype(int)
        assert view.max() - view.min() >= 0.7 * 199 - 6


def test_trivial_augment_changes_pictures_and_none_does_not() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    augment = TrivialAugment(flip=False, min_area=1.0, stretch=1.0).build(64, "bilinear", GREY)
    torch.manual_seed(0)
    views = [np.asarray(augment(Image.fromarray(noise))) for _ in range(10)]
    assert sum(not np.array_equal(view, noise) for view in views) >= 5
    assert NoAugmentation().build(64, "bilinear", GREY) is None

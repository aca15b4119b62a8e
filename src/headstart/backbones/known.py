"""Backbones of which published figures are known, and which of them are worth a download.

Figures are those of timm (Wightman 2019): the folder `results` of its repository
https://github.com/huggingface/pytorch-image-models at aa4b585 (8 August 2026). Accuracy is from
`results-imagenet.csv`, multiply-adds and parameters are from the files
`benchmark-infer-amp-nchw-pt240-cu124-rtx4090.csv` and `…-pt291-cu128-4090.csv`, at the resolution
of the weights. Multiply-adds of EfficientNet-Lite are those of its authors. Accuracy on ImageNet
predicts how well frozen features transfer (Kornblith et al. 2019).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST_FETCHED = 3

OPEN_LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0")
"""Licences that allow every use, and ask for no more than a notice."""

Teacher = Literal["labels", "images", "texts"]
"""What the weights were learned from: labelled images, images alone, or images with their texts."""


@dataclass(frozen=True)
class KnownBackbone:
    """Published figures of a backbone.

    Attributes:
        name: timm name with the tag of the weights; without one if the dependencies ship them.
        gmacs: Multiply-adds per image, in billions.
        millions: Parameters with the classifier, in millions.
        accuracy: Share of ImageNet's validation images that are classified correctly, in percent;
            None if no comparable figure is published.
        learned_from: What the weights were learned from.
        resolution: Side of the images in pixels; 0 for that of the weights.
    """

    name: str
    gmacs: float
    millions: float
    accuracy: float | None
    learned_from: Teacher = "labels"
    resolution: int = 0

    @property
    def family(self) -> str:
        """The first word of the name, such as `convnext`."""
        return self.name.removeprefix("tf_").partition("_")[0]

    @property
    def megabytes(self) -> float:
        """Size of its weights file: four bytes for each parameter."""
        return 4 * self.millions


KNOWN = (
    KnownBackbone("tf_efficientnet_lite0", 0.407, 4.65, 74.8),
    KnownBackbone("tf_efficientnet_lite1", 0.631, 5.42, 76.7),
    KnownBackbone("tf_efficientnet_lite2", 0.899, 6.09, 77.5),
    KnownBackbone("mobilenetv4_conv_small.e2400_r224_in1k", 0.19, 3.77, 73.8),
    KnownBackbone("mobilenetv3_large_100.miil_in21k_ft_in1k", 0.23, 5.48, 77.9),
    KnownBackbone("efficientnet_b0.ra_in1k", 0.40, 5.29, 77.7),
    KnownBackbone("efficientvit_b1.r224_in1k", 0.53, 9.10, 79.3),
    KnownBackbone("regnety_008_tv.tv2_in1k", 0.84, 6.43, 78.7),
    KnownBackbone("mobilenetv4_conv_medium.e500_r256_in1k", 1.10, 9.72, 79.9),
    KnownBackbone("tiny_vit_5m_224.dist_in22k_ft_in1k", 1.28, 5.39, 80.9),
    KnownBackbone("mobilenetv4_hybrid_medium.e200_r256_in12k_ft_in1k", 1.29, 11.07, 82.4),
    KnownBackbone("efficientvit_b2.r224_in1k", 1.60, 24.33, 82.2),
    KnownBackbone("resnet18.a1_in1k", 1.82, 11.69, 71.5),
    KnownBackbone("tiny_vit_11m_224.dist_in22k_ft_in1k", 2.04, 11.00, 83.2),
    KnownBackbone("convnext_nano.in12k_ft_in1k", 2.46, 15.59, 82.3),
    KnownBackbone("resnet50.a1_in1k", 4.11, 25.56, 80.4),
    KnownBackbone("tiny_vit_21m_224.dist_in22k_ft_in1k", 4.29, 21.20, 85.1),
    KnownBackbone("convnext_tiny.in12k_ft_in1k", 4.47, 28.59, 84.2),
    KnownBackbone("vit_small_patch16_224.augreg_in21k_ft_in1k", 4.61, 22.05, 81.4),
    KnownBackbone("tf_efficientnetv2_s.in21k_ft_in1k", 5.35, 21.46, 83.3),
    KnownBackbone("vit_base_patch32_siglip_256.v2_webli", 5.75, 94.55, None, "texts"),
    # Accuracy of a linear classifier on frozen features, from the page of its authors
    # (https://github.com/facebookresearch/dinov2), who evaluate at 224 pixels. timm gives its cost
    # at 518 pixels only; this one is counted as in `backbones/listing`.
    KnownBackbone("vit_small_patch14_dinov2.lvd142m", 6.1, 22.06, 81.1, "images", 224),
    KnownBackbone("vit_small_patch16_dinov3.lvd1689m", 6.26, 21.59, None, "images"),
    KnownBackbone("convnext_small.in12k_ft_in1k", 8.71, 50.22, 85.2),
)
"""Those that the dependencies ship, then others by their cost."""

BY_NAME = {each.name: each for each in KNOWN}


def worth_fetching(
    candidates: Sequence[KnownBackbone], most: int = MOST_FETCHED
) -> list[KnownBackbone]:
    """Returns the most promising backbones, the cheapest first.

    First the most accurate of each kind of pretraining, because which one suits a data set is not
    known before it is tried (Goldblum et al. 2023); then the most accurate of families that are not
    there yet.

    Args:
        candidates: Those for which there is time, and that may be used.
        most: Largest number of backbones.

    Example:
        >>> few = [each for each in KNOWN[3:] if each.gmacs < 2]
        >>> [each.name.partition(".")[0] for each in worth_fetching(few, most=2)]
        ['mobilenetv4_hybrid_medium', 'efficientvit_b2']
    """
    ranked = sorted(candidates, key=lambda each: -(each.accuracy or 0.0))
    chosen: list[KnownBackbone] = []
    for each in ranked:
        if each.learned_from not in {other.learned_from for other in chosen}:
            chosen.append(each)
    for each in ranked:
        if each.family not in {other.family for other in chosen}:
            chosen.append(each)
    return sorted(chosen[:most], key=lambda each: each.gmacs)

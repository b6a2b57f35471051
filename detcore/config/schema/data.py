"""Data: where the images come from and what is done to them before the network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detcore.config.schema.require import require


@dataclass(frozen=True)
class Shapes:
    """The embedded synthetic set, drawn on first use into a cache folder in COCO format."""

    kind: Literal["shapes"] = "shapes"
    train_images: int = 512
    val_images: int = 128
    size: int = 128  # pixels, both sides
    seed: int = 0

    def __post_init__(self) -> None:
        require(self.train_images >= 1, f"train_images must be at least 1, is {self.train_images}")
        require(self.val_images >= 1, f"val_images must be at least 1, is {self.val_images}")
        require(self.size >= 64, f"size must be at least 64 pixels, is {self.size}")


@dataclass(frozen=True)
class CocoFolder:
    """Any folder in COCO format. Paths are relative to `root`; a path left out is looked for under
    the usual names."""

    kind: Literal["coco"] = "coco"
    root: str = ""
    train_annotations: str | None = None
    val_annotations: str | None = None
    train_images: str | None = None
    val_images: str | None = None

    def __post_init__(self) -> None:
        require(
            self.root != "", "root is missing: the folder that holds annotations/ and the images"
        )


@dataclass(frozen=True)
class InputSize:
    """Short sides to draw from in training, one short side in evaluation, the cap of the long side,
    the padding multiple."""

    train_short_sides: tuple[int, ...] = (640, 672, 704, 736, 768, 800)
    train_max_side: int = 1333
    eval_short_side: int = 800
    eval_max_side: int = 1333
    pad_multiple: int = 32
    # `inside`: the longer side never exceeds its cap. `short`: where the cap binds, the shorter
    # side is raised to its target all the same and the image is distorted, as in the report.
    fit: Literal["inside", "short"] = "inside"
    align: int = 1  # each side of an image is rounded up to a multiple of this by resizing it

    def __post_init__(self) -> None:
        require(len(self.train_short_sides) > 0, "train_short_sides needs at least one entry")
        smallest = min(
            *self.train_short_sides, self.eval_short_side, self.train_max_side, self.eval_max_side
        )
        require(smallest >= 16, f"sides must be at least 16 pixels, the smallest is {smallest}")
        require(self.pad_multiple >= 1, f"pad_multiple must be at least 1, is {self.pad_multiple}")
        require(self.align >= 1, f"align must be at least 1, is {self.align}")


@dataclass(frozen=True)
class ReportStitch:
    """The report's Stitch: with this probability one image of a rank's batch becomes a picture of
    itself and of another of the batch, side by side or one above the other."""

    kind: Literal["stitch2"] = "stitch2"
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("probability", self.probability)


@dataclass(frozen=True)
class Stitch:
    """Stitcher (Chen et al. 2020): with this probability every image of a rank's batch becomes a
    picture of four images at half their size, or less where one does not fit into its quarter; the
    other three are drawn from the split. The published one decides it by the share of small objects
    in the last step's loss, which would make the data depend on the run; here it is drawn."""

    kind: Literal["stitch4"] = "stitch4"
    probability: float = 0.5

    def __post_init__(self) -> None:
        _check_probability("probability", self.probability)


@dataclass(frozen=True)
class Data:
    source: Shapes | CocoFolder = Shapes()
    input: InputSize = InputSize()
    flip: float = 0.5  # probability of a horizontal flip in training
    # `aa_v0`: AutoAugment for detection, policy v0 (Zoph et al. 2019); `waa`: the report's rewrite
    augment: Literal["none", "aa_v0", "waa"] = "none"
    stitch: ReportStitch | Stitch | None = None
    crowd: Literal["drop", "keep"] = (
        "drop"  # crowd boxes in training: left out, or ordinary boxes (as in the report)
    )
    empty_images: Literal["keep", "drop"] = "keep"  # training images without boxes
    on_bad_image: Literal["error", "skip"] = (
        "error"  # an image that is listed and absent or truncated
    )
    # this share of the training images is not trained on and takes the place of the val split:
    # what is chosen (a learning rate) must not be chosen on the images that judge it
    holdout: float = 0.0

    def __post_init__(self) -> None:
        _check_probability("flip", self.flip)
        require(0 <= self.holdout < 1, f"holdout is a share below 1, is {self.holdout}")


def _check_probability(name: str, value: float) -> None:
    require(0 <= value <= 1, f"{name} is a probability, is {value}")

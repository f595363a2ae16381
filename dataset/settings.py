"""Settings of `motifs build`."""

from __future__ import annotations

from dataclasses import dataclass, field

from dataset.croissant import About
from dataset.cutting import CutConfig
from dataset.importers.hik import HikLabels
from dataset.shards import Compression
from dataset.splits import SplitConfig


@dataclass(frozen=True)
class BuildConfig:
    """How a dataset is built.

    Attributes:
        cut: where sequences are cut into clips.
        split: how clips are divided into train, val and test.
        about: what the lab says of its dataset: licence, people, how to cite it.
        vocabulary: action labels that may occur, in the order of their columns; empty for those that do occur.
        feature_rate_hz: rate at which the statistics of the frame vectors are taken (the model's rate).
        compression: of the arrays. `auto` deflates those that shrink to less than half and leaves the noise of others
            as it is, `gzip` deflates all for a fifth less space and a fifth of the speed, `lzf` lies between and is
            read by h5py alone.
        shard_mb: size at which a shard is closed, MiB; a clip is never divided.
        body_model: model that the joints of AMASS and motion capture files are computed with, and bodies fitted to
            joints: a file, or `stand-in`.
        hik_labels: what Humans in Kitchens is labelled with: its 82 activities, or the paper's 36 classes.
        max_failed_fraction: share of the sources that may fail to import.
    """

    cut: CutConfig = field(default_factory=CutConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    about: About = field(default_factory=About)
    vocabulary: tuple[str, ...] = ()
    feature_rate_hz: float = 5.0
    compression: Compression = "auto"
    shard_mb: float = 256.0
    body_model: str = "stand-in"
    hik_labels: HikLabels = "original"
    max_failed_fraction: float = 0.0

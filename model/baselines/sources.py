"""What systems are pretrained on: windows of a dataset of SMPL's people, or clips of a benchmark of Kinect's.

A source gives the batch of a step from the seed and the step alone, so that a run goes on exactly.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from core.arrays import Float, Int
from core.errors import InputError
from dataset.features import LAYOUT, NUM_FEATURE_JOINTS
from dataset.kinect.bodies import in_body_frame
from dataset.kinect.clips import ClipFile
from dataset.kinect.joint_map import KINECT_25, ntu_from_smpl
from dataset.loader import WindowSampler
from dataset.prefetch import prefetch
from dataset.shards import AmdDataset
from model.baselines.skeletons import SkeletonBatch, skeletons_of
from model.baselines.systems import SYSTEMS, SystemConfig, num_joints, system_name
from model.baselines.views import as_kinect_sees, batch_of_clips, training_view
from model.run import data_identity

Statistics = tuple[Float[torch.Tensor, "features"], Float[torch.Tensor, ""]]
# as the published preprocessing cuts them: ten seconds, the longest of NTU RGB+D
MAX_FRAMES = 300
# clips that statistics are of: more do not move them
_STATISTICS_CLIPS = 1000


@runtime_checkable
class BatchSource(Protocol):
    """Batches of one step after the other.

    Attributes:
        name: as the run's folder states it.
    """

    name: str

    def identity(self) -> Mapping[str, str]:
        """What makes the data these, for a run to be refused on others."""
        ...

    def statistics(self) -> Statistics:
        """Mean of every channel of the joints and one deviation, metres, for a system that normalises its input."""
        ...

    def batches(self, start: int, end: int) -> Generator[tuple[int, Any], None, None]:
        """(step, what `prepare` takes) of the steps from `start` up to `end`."""
        ...

    def prepare(self, raw: Any, generator: torch.Generator) -> SkeletonBatch:
        """What the network's loss is given; what varies it is drawn from the step's generator."""
        ...


class AmdWindows:
    """Random windows of the training split of a dataset that `motifs build` made.

    A network of Kinect's joints sees them as `model.baselines.views.as_kinect_sees` has them, varied as its paper
    varies them.

    Args:
        dataset: the dataset.
        config: of the network.
        window_s: length of the windows.
        rate_hz: frames a second.
        seed: of places and order.
        batch_size: windows in a batch.
        tempo: deviation of the logarithm of how fast windows are played.
    """

    def __init__(
        self,
        dataset: AmdDataset,
        config: SystemConfig,
        *,
        window_s: float,
        rate_hz: float,
        seed: int,
        batch_size: int,
        tempo: float,
    ) -> None:
        self.name, self._dataset, self._config, self._rate_hz = dataset.path.name, dataset, config, rate_hz
        self._sampler = WindowSampler(
            dataset, "train", window_s, rate_hz, seed, batch_size=batch_size, tempo=tempo
        )  # fmt: skip
        self._kind = SYSTEMS[system_name(config)]

    def identity(self) -> Mapping[str, str]:
        """See `BatchSource`."""
        return data_identity(self._dataset)

    def statistics(self) -> Statistics:
        """See `BatchSource`; those of the dataset's own file."""
        stats = self._dataset.stats()
        mean, sd = (torch.from_numpy(x[LAYOUT.positions]).float() for x in (stats.mean, stats.sd))
        if self._of_kinect:
            joints, _ = ntu_from_smpl(mean.numpy().reshape(NUM_FEATURE_JOINTS, 3))
            mean = torch.from_numpy(joints.reshape(-1))
        return mean, sd.square().mean().sqrt()

    def batches(self, start: int, end: int) -> Generator[tuple[int, Any], None, None]:
        """See `BatchSource`."""
        return prefetch(self._sampler, start, end)

    def prepare(self, raw: Any, generator: torch.Generator) -> SkeletonBatch:
        """See `BatchSource`."""
        batch = skeletons_of(raw, self._rate_hz, self._kind.coordinates)
        if self._of_kinect:
            known = np.where(batch.exists[..., None, None], batch.joints_m, np.nan)
            clips = [as_kinect_sees(joints_m, self._config) for joints_m in known]
            return training_view(self._config, batch_of_clips(clips, self._config), generator)
        return batch if self._kind.vary is None else self._kind.vary(batch, generator)

    @property
    def _of_kinect(self) -> bool:
        return num_joints(self._config) == len(KINECT_25)


class SystemClips:
    """Clips as a system sees their joints, before they are varied.

    MAMP and GL-Transformer of Kinect's joints are given them as the camera saw them, z up, as published; the others
    and networks of SMPL's joints in the frames of `dataset.features`, bodies scaled to one leg.

    Args:
        clips: the file.
        idx: which of them.
        config: of the network.
    """

    def __init__(self, clips: ClipFile, idx: Int[np.ndarray, "clips"], config: SystemConfig) -> None:
        self.clips, self.idx, self.config = clips, idx, config
        self.labels: Int[np.ndarray, "clips"] = clips.labels[idx] - 1
        self._coordinates = SYSTEMS[system_name(config)].coordinates

    def __len__(self) -> int:
        return len(self.idx)

    def joints(self, row: int) -> Float[np.ndarray, "people frames joints 3"]:
        """Joints of a clip, its first 300 frames: metres, z up, NaN where a person is not there."""
        joints_m = self.clips.joints(int(self.idx[row]))[:, :MAX_FRAMES]
        num = num_joints(self.config)
        if num == len(KINECT_25) and self._coordinates == "start":
            return joints_m
        return in_body_frame(joints_m, self._coordinates, num)

    def batch(self, rows: Sequence[int]) -> SkeletonBatch:
        """Clips padded to the longest of them."""
        return batch_of_clips([self.joints(row) for row in rows], self.config)


class ClipSource:
    """Clips of a benchmark's training part, all of them in each epoch in another order.

    Args:
        clips: as the system sees them.
        benchmark: its name.
        seed: of the order.
        batch_size: clips in a batch.
    """

    def __init__(self, clips: SystemClips, benchmark: str, *, seed: int, batch_size: int) -> None:
        if not len(clips):
            raise InputError(benchmark, "has no clips to train on", "give the whole dataset")
        self.name, self._clips, self._seed, self._batch_size = benchmark, clips, seed, batch_size
        self._epoch: tuple[int, np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; what does not fill a batch is left out, another part in every epoch."""
        return max(len(self._clips) // self._batch_size, 1)

    def identity(self) -> Mapping[str, str]:
        """See `BatchSource`."""
        chosen = hashlib.sha256(self._clips.idx.astype(np.int64).tobytes()).hexdigest()
        return {"benchmark": self.name, "clips": self._clips.clips.content_sha256, "chosen": chosen}

    def statistics(self) -> Statistics:
        """See `BatchSource`; of clips evenly spread over all."""
        rows = np.unique(np.linspace(0, len(self._clips) - 1, _STATISTICS_CLIPS).astype(int))
        frames = np.concatenate(
            [self._clips.joints(int(row)).reshape(-1, 3 * num_joints(self._clips.config)) for row in rows]
        )
        frames = frames[np.isfinite(frames).all(axis=1)].astype(np.float64)
        scale = np.sqrt(frames.var(axis=0).mean())
        return torch.from_numpy(frames.mean(axis=0)).float(), torch.tensor(scale, dtype=torch.float32)

    def rows(self, step: int) -> Int[np.ndarray, "batch"]:
        """The clips of a step, counted from 0 over all epochs; a benchmark below one batch gives some twice."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            rng = np.random.default_rng([self._seed, epoch])
            rounds = -(-self._batch_size // len(self._clips))
            self._epoch = epoch, np.concatenate([rng.permutation(len(self._clips)) for _ in range(rounds)])
        return self._epoch[1][place * self._batch_size : (place + 1) * self._batch_size]

    def batches(self, start: int, end: int) -> Generator[tuple[int, Any], None, None]:
        """See `BatchSource`; the next batch is read while the network learns from this one."""
        with ThreadPoolExecutor(1) as reader:
            ahead = deque[tuple[int, Future[SkeletonBatch]]]()
            try:
                for step in range(start, end):
                    ahead.append((step, reader.submit(self._clips.batch, self.rows(step).tolist())))
                    if len(ahead) > 1:
                        first, read = ahead.popleft()
                        yield first, read.result()
                while ahead:
                    first, read = ahead.popleft()
                    yield first, read.result()
            finally:
                reader.shutdown(wait=True, cancel_futures=True)

    def prepare(self, raw: Any, generator: torch.Generator) -> SkeletonBatch:
        """See `BatchSource`."""
        return training_view(self._clips.config, raw, generator)

"""Windows of frame vectors for training and evaluation: random ones by step number, or every one of a split in order.

`WindowSampler.batch(step)` depends on nothing but its arguments, the seed and the dataset: a run that was killed
resumes in the middle of an epoch by asking for its next step, and ranks ask for their rows of the same batch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from core.arrays import Float
from core.errors import InputError
from dataset.features import NUM_FEATURE_JOINTS
from dataset.resample import Motion, resample
from dataset.schema import ClipInfo
from dataset.shards import AmdDataset

# Eq. A finds action atoms on the 30-fps stream.
ATOM_RATE_HZ = 30.0
# clips up to this many windows long are kept in memory where not all are
_FEW_WINDOWS = 4


@dataclass(frozen=True)
class WindowRef:
    """A window of a clip: which clip (id and position in the index), where it starts, and how fast it is played."""

    clip_id: str
    clip_idx: int
    start_s: float
    tempo: float = 1.0


def local_joints_at(
    dataset: AmdDataset, clip_id: str, rate_hz: float = ATOM_RATE_HZ
) -> Float[np.ndarray, "frames 22 3"]:
    """Heading-aligned joints of a whole clip at `rate_hz`, what action atoms are found on; NaN in invalid frames."""
    motion = resample(dataset.motion(clip_id), rate_hz)
    return np.where(motion.frame_valid[:, None, None], motion.local_joints(), np.nan).astype(np.float32)


def window_refs(
    dataset: AmdDataset, split: str, window_s: float, stride_s: float | None = None
) -> tuple[WindowRef, ...]:
    """Every window of a split at regular starts, in the order of the index.

    Args:
        window_s: length.
        stride_s: distance of the starts, `window_s` if None. The last window of a clip may be cut short (and is then
            padded); a clip shorter than a window gives one.
    """
    stride = window_s if stride_s is None else stride_s
    refs = []
    for idx, clip in enumerate(dataset.clips):
        if split in ("all", clip.split):
            # as many as it takes to reach the end, none of them beginning after the last frame
            count = int(np.ceil(max(clip.duration_s - window_s, 0.0) / stride - 1e-9)) + 1
            last_s = (clip.num_frames - 1) / float(clip.frame_rate)
            refs += [WindowRef(clip.id, idx, k * stride) for k in range(count) if k * stride <= last_s]
    return tuple(refs)


def collate(windows: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """A batch: each array stacked along a new first axis."""
    return {name: np.stack([window[name] for window in windows]) for name in windows[0]}


class WindowReader:
    """Reads windows at the model's rate, keeping whole clips in memory up to a bound.

    Args:
        dataset: where the clips are.
        window_s: length of a window.
        rate_hz: frames a second of the features.
        cache_mb: memory for clips kept decoded. Where the dataset does not fit, only clips of a few windows are kept:
            a longer one would be read whole for one window and dropped before the next.
    """

    def __init__(self, dataset: AmdDataset, window_s: float, rate_hz: float, cache_mb: int = 512) -> None:
        self.dataset, self.rate_hz = dataset, rate_hz
        self.num_frames = round(window_s * rate_hz)
        if self.num_frames < 2:
            raise InputError("window", f"{window_s} s at {rate_hz} Hz is less than two frames", "make it longer")
        self._budget = cache_mb << 20
        fits = sum(_motion_bytes(clip.num_frames) for clip in dataset.clips) <= self._budget
        self._longest_s = np.inf if fits else _FEW_WINDOWS * window_s
        self._cache: OrderedDict[str, Motion] = OrderedDict()
        self._held = 0

    def read(self, ref: WindowRef) -> dict[str, Any]:
        """One window, padded at its end with zeros that `valid` marks.

        Returns:
            `features` (T, 271) float32, not normalised; `valid` (T,); `joint_valid` (T, 22) measured joints;
            `joint_sigma_m` (T, 22) float32, of the normalised body as the positions are, NaN unknown; `clip_idx` ()
            int64 position in the index; `start_s` () and `tempo` () of the window.
        """
        info = self.dataset[ref.clip_id]
        motion, offset = self._motion(info, ref)
        motion = replace(motion, rate_hz=motion.rate_hz * ref.tempo)
        # one frame more than the window: the last frame's velocity looks ahead
        seen = resample(motion, self.rate_hz, offset, self.num_frames + 1)
        features = seen.features()[: self.num_frames]
        count = len(features)
        valid = seen.frame_valid[:count] & np.isfinite(features).all(axis=1)
        joints = slice(0, NUM_FEATURE_JOINTS)
        parts = {
            "features": np.where(valid[:, None], features, np.float32(0.0)),
            "valid": valid,
            "joint_valid": seen.joint_valid[:count, joints] & valid[:, None],
            "joint_sigma_m": (motion.scale * seen.joint_sigma_m[:count, joints]).astype(np.float32),
        }
        padded = {name: self._pad(array) for name, array in parts.items()}
        place = {"start_s": np.float64(ref.start_s), "tempo": np.float64(ref.tempo)}
        return {**padded, "clip_idx": np.int64(ref.clip_idx), **place}

    def _pad(self, array: np.ndarray) -> np.ndarray:
        missing = self.num_frames - len(array)
        if missing == 0:
            return array
        return np.pad(array, ((0, missing), *((0, 0),) * (array.ndim - 1)))

    def _motion(self, info: ClipInfo, ref: WindowRef) -> tuple[Motion, float]:
        """The clip's motion around a window, and where the window starts in it, in frames."""
        start = ref.start_s * float(info.frame_rate)
        if (motion := self._cached(info)) is not None:
            return motion, start
        first = int(start)
        span = int(np.ceil((self.num_frames + 1) / self.rate_hz * ref.tempo * float(info.frame_rate))) + 2
        return self.dataset.motion(info.id, first, min(first + span, info.num_frames)), start - first

    def _cached(self, info: ClipInfo) -> Motion | None:
        """The whole clip if it may be kept in memory."""
        if info.id in self._cache:
            self._cache.move_to_end(info.id)
            return self._cache[info.id]
        size = _motion_bytes(info.num_frames)
        if info.duration_s > self._longest_s or size > self._budget:
            return None
        motion = self._cache[info.id] = self.dataset.motion(info.id)
        self._held += size
        while self._held > self._budget:
            self._held -= _motion_bytes(len(self._cache.popitem(last=False)[1]))
        return motion

    def __getstate__(self) -> dict[str, Any]:
        """For other processes, which fill a memory of their own."""
        return {**self.__dict__, "_cache": OrderedDict(), "_held": 0}

    def share_memory(self, readers: int) -> None:
        """Leaves room for as many readers of the same settings in the memory of one."""
        self._budget //= readers
        self._longest_s = min(self._longest_s, _FEW_WINDOWS * self.num_frames / self.rate_hz)


def _motion_bytes(num_frames: int) -> int:
    """Memory of a `Motion`: poses, joints, contacts, validity and sigma, float32."""
    return num_frames * (24 * 3 * 4 * 2 + 4 * 4 + 24 + 24 * 4 + 1)


class WindowSampler:
    """Random windows over a split, the same for the same (seed, step).

    In each epoch a clip gives windows in proportion to its length (at least one), one in each equal part of it and at a
    random place there, on the clip's own frames; their order over all shards is shuffled.

    Args:
        dataset: where the clips are.
        split: `train`, `val`, `test` or `all`.
        window_s: length of a window.
        rate_hz: frames a second of the features.
        seed: of places and order.
        batch_size: windows in a batch, over all ranks.
        rank: which of `num_ranks` processes this is; it gets rows rank, rank + num_ranks, ... of each batch.
        num_ranks: processes that train together.
        cache_mb: memory for decoded clips.
        tempo: standard deviation of the logarithm of how fast windows are played.

    Raises:
        InputError: if the split has no clips, or there are more ranks than rows in a batch.
    """

    def __init__(
        self,
        dataset: AmdDataset,
        split: str,
        window_s: float,
        rate_hz: float,
        seed: int,
        *,
        batch_size: int = 16,
        rank: int = 0,
        num_ranks: int = 1,
        cache_mb: int = 512,
        tempo: float = 0.0,
    ) -> None:
        self.tempo = tempo
        self.dataset, self.seed, self.batch_size = dataset, seed, batch_size
        self.rank, self.num_ranks = rank, num_ranks
        if not 0 <= rank < num_ranks <= batch_size:
            raise InputError(
                f"rank {rank} of {num_ranks}", f"a batch of {batch_size} has no rows for it", "make the batch larger"
            )
        self.reader = WindowReader(dataset, window_s, rate_hz, cache_mb)
        chosen = [i for i, clip in enumerate(dataset.clips) if split in ("all", clip.split)]
        self._idx = np.array(chosen, dtype=np.int64)
        if len(self._idx) == 0:
            raise InputError(
                f"split {split} of {dataset.path}",
                f"has no clips ({dict(dataset.info.split_clips)})",
                "add sessions of other subjects, or divide by session or clip: `motifs build --split-by session`",
            )
        durations = np.array([dataset.clips[i].duration_s for i in self._idx])
        self._draws = np.maximum(np.rint(durations / window_s).astype(int), 1)
        # too little data for one batch: more places in each clip
        self._draws *= int(np.ceil(batch_size / self._draws.sum()))
        self._durations_s, self._window_s = durations, window_s
        self._epoch: tuple[int, tuple[WindowRef, ...]] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; what does not fill a batch is left out, another part in every epoch."""
        return int(self._draws.sum()) // self.batch_size

    def refs(self, step: int) -> tuple[WindowRef, ...]:
        """The windows of this rank at a step, counted from 0 over all epochs."""
        epoch, position = divmod(step, self.steps_per_epoch)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = (epoch, self._draw(epoch))
        batch = self._epoch[1][position * self.batch_size : (position + 1) * self.batch_size]
        return batch[self.rank :: self.num_ranks]

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step: the arrays of `WindowReader.read` with a first axis for the windows."""
        return collate([self.reader.read(ref) for ref in self.refs(step)])

    def _draw(self, epoch: int) -> tuple[WindowRef, ...]:
        """All windows of an epoch in shuffled order."""
        rng = np.random.default_rng([self.seed, epoch])
        which = np.repeat(np.arange(len(self._idx)), self._draws)
        part = np.arange(len(which)) - np.repeat(np.cumsum(self._draws) - self._draws, self._draws)
        place = (part + rng.random(len(which))) / self._draws[which]
        order = rng.permutation(len(which))
        tempo = np.exp(self.tempo * rng.standard_normal(len(which)))
        start_s = place * np.maximum(self._durations_s[which] - tempo * self._window_s, 0.0)
        refs = []
        for i in order:
            idx = int(self._idx[which[i]])
            clip = self.dataset.clips[idx]
            rate = clip.frame_rate
            refs.append(WindowRef(clip.id, idx, float(int(start_s[i] * float(rate)) / rate), float(tempo[i])))
        return tuple(refs)

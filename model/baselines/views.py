"""What each system sees of recordings of one action each: as its paper trains it, and as it tests it.

- MAMP: centred on the middle of the spine, a random stretch of 50 to 100 % (64 frames at least) resized to the
  network's frames, turned at random; in testing the middle 95 % resized. Two people are two samples.
- GL-Transformer: the first frames that the network takes; shear and resampling are its loss's own.
- Motion codes: everything.

Shape suffixes: B sequence, P person, T frame, J joint.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from core.arrays import Float
from core.skeletons import SMPL_24
from dataset.kinect.actors import seen_whole
from dataset.kinect.bodies import before_a_camera
from dataset.kinect.joint_map import KINECT_25, ntu_from_smpl
from model.baselines.gl_transformer import GlTransformerConfig
from model.baselines.mamp import MampConfig
from model.baselines.mamp_views import centre_crop, centred, random_crop, random_rotation
from model.baselines.skeletons import SkeletonBatch
from model.baselines.systems import SystemConfig, num_joints, num_people


def training_view(config: SystemConfig, batch: SkeletonBatch, generator: torch.Generator) -> SkeletonBatch:
    """A batch varied as the published training varies it, before the network's loss adds its own."""
    if not isinstance(config, MampConfig):
        return testing_view(config, batch)
    batch = random_crop(centred(batch, _middle(config)), config.frames, generator)
    return random_rotation(batch, generator)


def testing_view(config: SystemConfig, batch: SkeletonBatch) -> SkeletonBatch:
    """A batch as the published evaluation sees it; nothing is drawn."""
    if isinstance(config, MampConfig):
        return centre_crop(centred(batch, _middle(config)), config.frames)
    if isinstance(config, GlTransformerConfig):
        return SkeletonBatch(batch.joints_m[:, :, : config.frames], batch.exists[:, :, : config.frames])
    return batch


def batch_of_clips(clips: Sequence[Float[np.ndarray, "_ _ joints 3"]], config: SystemConfig) -> SkeletonBatch:
    """Clips of their own numbers of people and frames, padded to one shape; as many people as the network takes.

    Args:
        clips: (people, frames, joints, 3) each, metres, NaN where a person is not there.
        config: of the network.
    """
    people = num_people(config) or max(len(clip) for clip in clips)
    frames = max(clip.shape[1] for clip in clips)
    joints_m = np.zeros((len(clips), people, frames, num_joints(config), 3), dtype=np.float32)
    exists = np.zeros((len(clips), people, frames), dtype=bool)
    for row, clip in enumerate(clips):
        known = clip[:people]
        there = seen_whole(known)
        exists[row, : len(known), : clip.shape[1]] = there
        # what is under the mask must be numbers: nothing times NaN is NaN
        joints_m[row, : len(known), : clip.shape[1]] = np.where(there[..., None, None], known, 0.0)
    return SkeletonBatch(torch.from_numpy(joints_m), torch.from_numpy(exists))


def as_kinect_sees(
    joints_m: Float[np.ndarray, "*batch 22 3"], config: SystemConfig
) -> Float[np.ndarray, "*batch 25 3"]:
    """SMPL's joints of a window or motion (`model.baselines.skeletons`) for a network of Kinect's joints.

    MAMP has learned from people who face the camera, and is given them so. The other systems see every frame, or turn
    it themselves, by the body's own heading.
    """
    joints, _ = ntu_from_smpl(joints_m)
    return before_a_camera(joints) if isinstance(config, MampConfig) else joints


def _middle(config: MampConfig) -> int:
    """The middle of the spine; the same joint of both skeletons."""
    return (KINECT_25 if config.joints == len(KINECT_25) else SMPL_24).idx("spine2")

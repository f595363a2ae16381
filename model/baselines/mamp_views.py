"""Views of skeletons as MAMP is trained and tested on them: centred, cropped, resized in time, turned.

arXiv 2308.07092 and its code. What is drawn at random comes from the generator, the same for all people of a sequence.
Resizing changes how long a frame lasts, differently for sequences of different lengths: it is for recordings of one
action each, not for tokens that are compared by time.

Shape suffixes: B sequence, P person, T frame, J joint.
"""

from __future__ import annotations

import numpy as np
import torch

from core.arrays import Float, Int
from dataset.rotations import matrix_from_rotvec
from model.baselines.skeletons import SkeletonBatch


def centred(batch: SkeletonBatch, joint: int) -> SkeletonBatch:
    """Moves each sequence so that a joint of the first person who is ever there begins at the origin.

    All its people move alike, so where they are to each other stays; nothing is scaled. The paper takes joint 1, the
    middle of the spine.
    """
    sequence_B = torch.arange(len(batch.exists), device=batch.exists.device)
    person_B = batch.exists.any(dim=2).int().argmax(dim=1)
    frame_B = batch.exists[sequence_B, person_B].int().argmax(dim=1)
    origin_B3 = batch.joints_m[sequence_B, person_B, frame_B, joint]
    return SkeletonBatch(batch.joints_m - origin_B3[:, None, None, None], batch.exists)


def num_frames(batch: SkeletonBatch) -> Int[torch.Tensor, "B"]:
    """Frames of each sequence up to the last in which anybody is there; what follows is padding."""
    number_T = torch.arange(1, batch.exists.shape[2] + 1, device=batch.exists.device)
    return (batch.exists.any(dim=1) * number_T).amax(dim=1)


def stretch_resized(
    batch: SkeletonBatch, start_B: Int[torch.Tensor, "B"], length_B: Int[torch.Tensor, "B"], frames: int
) -> SkeletonBatch:
    """Stretches of the sequences, linearly resized to one number of frames.

    A new frame lies at the centre of its share of the stretch, and no farther out than the stretch's own first and last
    frames, as in torch's `interpolate`. A person is there if they are in both frames that it lies between.

    Args:
        start_B: first frame of each stretch.
        length_B: its number of frames.
    """
    device = batch.exists.device
    start_B1, length_B1 = start_B.to(device)[:, None], length_B.to(device)[:, None].clamp(min=1)
    centre_T = torch.arange(frames, device=device, dtype=torch.float64) + 0.5
    within_BT = torch.minimum((centre_T * length_B1 / frames - 0.5).clamp(min=0), length_B1 - 1)
    before_BT = start_B1 + within_BT.long()
    weight_BT = within_BT.frac()
    after_BT = torch.where(weight_BT > 0, before_BT + 1, before_BT)
    known_m = torch.where(batch.exists[..., None, None], batch.joints_m, 0.0)
    sequence_B1 = torch.arange(len(start_B), device=device)[:, None]
    # indexing puts people behind frames
    first, second = known_m[sequence_B1, :, before_BT], known_m[sequence_B1, :, after_BT]
    joints_m = torch.lerp(first, second, weight_BT.to(known_m.dtype)[:, :, None, None, None])
    exists = batch.exists[sequence_B1, :, before_BT] & batch.exists[sequence_B1, :, after_BT]
    return SkeletonBatch(joints_m.transpose(1, 2), exists.transpose(1, 2))


def resized(batch: SkeletonBatch, frames: int) -> SkeletonBatch:
    """Whole sequences, linearly resized."""
    length_B = num_frames(batch)
    return stretch_resized(batch, torch.zeros_like(length_B), length_B, frames)


def centre_crop(batch: SkeletonBatch, frames: int, share: float = 0.95) -> SkeletonBatch:
    """The middle of each sequence, resized: what the paper tests on."""
    length_B = num_frames(batch)
    cut_B = ((1 - share) * length_B.double() / 2).long()
    return stretch_resized(batch, cut_B, length_B - 2 * cut_B, frames)


def crop_bounds(
    length_B: Int[torch.Tensor, "B"],
    generator: torch.Generator,
    shares: tuple[float, float] = (0.5, 1.0),
    min_frames: int = 64,
) -> tuple[Int[torch.Tensor, "B"], Int[torch.Tensor, "B"]]:
    """First frame and number of frames of a random stretch of each sequence.

    Args:
        length_B: frames of each sequence.
        shares: bounds of the share of the frames that is kept, uniform between them.
        min_frames: least frames that are kept; shorter sequences are kept whole.
    """
    share_B, place_B = torch.rand(2, len(length_B), generator=generator, dtype=torch.float64, device=generator.device)
    length_B = length_B.to(generator.device)
    kept_B = (length_B * (shares[0] + (shares[1] - shares[0]) * share_B)).long()
    kept_B = torch.minimum(kept_B.clamp(min=min_frames), length_B)
    return (place_B * (length_B - kept_B + 1)).long(), kept_B


def random_crop(batch: SkeletonBatch, frames: int, generator: torch.Generator) -> SkeletonBatch:
    """A random stretch of each sequence, resized: what the paper trains on."""
    start_B, length_B = crop_bounds(num_frames(batch), generator)
    return stretch_resized(batch, start_B, length_B, frames)


def random_rotations(num_B: int, generator: torch.Generator, largest_rad: float = 0.3) -> Float[torch.Tensor, "B 3 3"]:
    """Turns about x, then y, then z of the world, each by a uniform angle of at most `largest_rad`."""
    angle_B3 = (2 * torch.rand(num_B, 3, generator=generator, dtype=torch.float64, device=generator.device) - 1).cpu()
    x_B33, y_B33, z_B33 = (
        matrix_from_rotvec(largest_rad * angle_B3[:, i, None].numpy() * np.eye(3)[i]) for i in range(3)
    )
    return torch.from_numpy(z_B33 @ y_B33 @ x_B33)


def random_rotation(batch: SkeletonBatch, generator: torch.Generator) -> SkeletonBatch:
    """Each sequence turned about the origin as a whole."""
    turn_B33 = random_rotations(len(batch.exists), generator).to(batch.joints_m)
    return SkeletonBatch(torch.einsum("bij,bptkj->bptki", turn_B33, batch.joints_m), batch.exists)

"""Sequences cut into segments: batches of them, and the tokens, places and pooling of their segments.

Shape suffixes: B sequence, T frame, F feature, D width, K segment, S token that is pooled. A segment index of -1 means
that a token does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from core.arrays import Bool, Float, Int


@dataclass(frozen=True, eq=False)
class MotionBatch:
    """Sequences of frames with their segmentation, padded to one length.

    Attributes:
        x: frame features, not normalised; whatever stands in frames that do not exist is ignored.
        atom: Atom of each frame, counted from 0 in each sequence; -1 where there is no valid frame.
        motif: Motif of each Atom, likewise; None as long as Motifs have not been mined.
        joint_valid: joints that were measured; None where nobody knows.
        joint_sigma_m: standard deviation of each joint's position, of the normalised body; NaN unknown.
        teacher_x: the frames as the teacher sees them; None: as the student does.
    """

    x: Float[torch.Tensor, "B T F"]
    atom: Int[torch.Tensor, "B T"]
    motif: Int[torch.Tensor, "B K"] | None = None
    joint_valid: Bool[torch.Tensor, "B T J"] | None = None
    joint_sigma_m: Float[torch.Tensor, "B T J"] | None = None
    teacher_x: Float[torch.Tensor, "B T F"] | None = None

    def to(self, device: torch.device) -> MotionBatch:
        """The same batch on another device."""
        parts = (self.x, self.atom, self.motif, self.joint_valid, self.joint_sigma_m, self.teacher_x)
        return MotionBatch(*(None if part is None else part.to(device) for part in parts))  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Tokens:
    """Latents of the segments of a batch.

    Attributes:
        z: one token a segment; meaningless where none exists.
        exists: whether the segment has any frame.
        time: mean frame index of the segment.
        length: number of its valid frames.
        local: the token before it attended to the other segments; None where it was not kept.
        members: tokens that were pooled, after they attended to each other in their segment; None likewise.
    """

    z: Float[torch.Tensor, "B K D"]
    exists: Bool[torch.Tensor, "B K"]
    time: Float[torch.Tensor, "B K"]
    length: Float[torch.Tensor, "B K"]
    local: Float[torch.Tensor, "B K D"] | None = None
    members: Float[torch.Tensor, "B S D"] | None = None


def num_segments(segment_BS: torch.Tensor) -> int:
    """Segments of the longest sequence; one where there are none, for the sake of shapes."""
    return max(int(segment_BS.max()) + 1, 1)


def segment_members(segment_BS: Int[torch.Tensor, "B S"], num_K: int) -> Bool[torch.Tensor, "B K S"]:
    """Which tokens belong to which segment."""
    return segment_BS[:, None, :] == torch.arange(num_K, device=segment_BS.device)[None, :, None]


def max_pool(
    x_BSD: Float[torch.Tensor, "B S D"], segment_BS: Int[torch.Tensor, "B S"], num_K: int
) -> Float[torch.Tensor, "B K D"]:
    """Maximum of each channel over a segment's tokens, the latent's first value; zero for a segment without any."""
    # tokens that do not exist go to one more segment, which is dropped
    slot_BSD = torch.where(segment_BS < 0, num_K, segment_BS)[..., None].expand_as(x_BSD)
    pooled = x_BSD.new_zeros(x_BSD.shape[0], num_K + 1, x_BSD.shape[2])
    return pooled.scatter_reduce(1, slot_BSD, x_BSD, "amax", include_self=False)[:, :num_K]


def edge_frames(
    x_BTF: Float[torch.Tensor, "B T F"], segment_BT: Int[torch.Tensor, "B T"], num_K: int
) -> Float[torch.Tensor, "B K G"]:
    """Frame vectors at the first, the middle and the last frame of each segment, G = 3 F; frame 0's for one without.

    Frames of segment -1 are passed over. The middle of an even number of frames is the mean of two.
    """
    member_BKT = segment_members(segment_BT, num_K)
    rank_BKT = member_BKT.cumsum(dim=-1).masked_fill(~member_BKT, 0)
    count_BK = member_BKT.sum(dim=-1)

    def at(rank_BK: torch.Tensor) -> torch.Tensor:
        index_BK = (rank_BKT == rank_BK[..., None]).int().argmax(dim=-1).masked_fill(count_BK == 0, 0)
        return torch.gather(x_BTF, 1, index_BK[..., None].expand(-1, -1, x_BTF.shape[-1]))

    middle_BKF = (at((count_BK + 1) // 2) + at(count_BK // 2 + 1)) / 2
    return torch.cat([at(torch.ones_like(count_BK)), middle_BKF, at(count_BK)], dim=-1)


def place(segment_BS: torch.Tensor, time_BS: torch.Tensor, length_BS: torch.Tensor, num_K: int) -> Tokens:
    """Times and lengths of segments from those of their tokens."""
    weight_BKS = segment_members(segment_BS, num_K) * length_BS[:, None, :]
    length_BK = weight_BKS.sum(dim=-1)
    time_BK = (weight_BKS * time_BS[:, None, :]).sum(dim=-1) / length_BK.clamp(min=1)
    return Tokens(time_BK.new_zeros(*time_BK.shape, 0), length_BK > 0, time_BK, length_BK)

"""MAMP: the motion of hidden patches is told from the few that are seen, and what moves most is hidden most.

"Masked Motion Predictors are Strong 3D Action Representation Learners", ICCV 2023, arXiv 2308.07092. A patch is one
joint of one person over a few frames; every person of a sequence is a sample of its own.

Shape suffixes: B sequence, P person, N sample, T frame, J joint, S step of time (a row of patches), C channel of a
patch, L token (a patch: step by step, joint by joint), K token that is seen, D width.

Differences from the paper: sequences may be shorter than the network's and people may be missing, so a patch exists
only if its person is there in all its frames, and patches that do not exist are neither seen nor asked for nor counted;
with everybody there throughout, nothing differs. Choices where the paper is silent: the variance of a target is that of
a sample (over one less than its values), as in MAE; the share of paths dropped rises linearly from none in the first
block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Bool, Float, Int
from core.errors import InputError
from model.baselines.mamp_views import centred
from model.baselines.skeletons import SkeletonBatch, StepTokens, SystemLoss
from model.blocks import Block, Dropping, among, initialise

# as published: keeps a patch of steady motion from being divided by zero; square metres per square frame
_EPS_VARIANCE = 1e-6
# as published: the same for a person who does not move; metres
_EPS_INTENSITY = 1e-10


@dataclass(frozen=True)
class MampConfig:
    """Size of the network and settings of its pretext task; the paper's for NTU RGB+D 60.

    Attributes:
        frames: most frames of a sequence; the paper resizes all to this number.
        joints: joints of a person.
        patch_frames: frames of a patch.
        width: channels of every token.
        heads: attention heads.
        encoder_layers: blocks over the patches that are seen.
        decoder_layers: blocks over all patches; the paper has 5 for NTU RGB+D 120 and PKU-MMD.
        ffn_ratio: hidden channels of a feed-forward over `width`.
        mask_ratio: share of patches that is hidden.
        temperature: how evenly they are drawn: the larger, the less it matters how much they move; the paper has 0.75
            for NTU RGB+D 120.
        drop_path: share of samples that skip a branch of the encoder's last block, drawn from torch's own generator;
            none in pretraining, 0.3 in the paper's fine-tuning.
        origin_joint: joint that is moved to the origin, see `centred`; None: batches come prepared, as the paper's do
            (centred on joint 1, the middle of the spine, before they are cropped).
    """

    frames: int = 120
    joints: int = 25
    patch_frames: int = 4
    width: int = 256
    heads: int = 8
    encoder_layers: int = 8
    decoder_layers: int = 3
    ffn_ratio: int = 4
    mask_ratio: float = 0.9
    temperature: float = 0.8
    drop_path: float = 0.0
    origin_joint: int | None = None

    @property
    def steps(self) -> int:
        """Patches of a joint over the longest sequence."""
        return -(-self.frames // self.patch_frames)


def patchify(x_NTJ3: Float[torch.Tensor, "N T J 3"], patch_frames: int) -> Float[torch.Tensor, "N S J C"]:
    """Cuts whole steps into patches; their channels are frame by frame, axis by axis."""
    return x_NTJ3.unflatten(1, (-1, patch_frames)).transpose(2, 3).flatten(3)


def unpatchify(x_NSJC: Float[torch.Tensor, "N S J C"], patch_frames: int) -> Float[torch.Tensor, "N T J 3"]:
    """The inverse of `patchify`."""
    return x_NSJC.unflatten(3, (patch_frames, 3)).transpose(2, 3).flatten(1, 2)


def patch_exists(exists_BPT: Bool[torch.Tensor, "B P T"], patch_frames: int) -> Bool[torch.Tensor, "B P S"]:
    """Steps in all of whose frames a person is there; frames that do not fill a step are one that nobody is in."""
    missing = -exists_BPT.shape[2] % patch_frames
    return F.pad(exists_BPT, (0, missing)).unflatten(2, (-1, patch_frames)).all(dim=3)


def motion(
    x_NTJ3: Float[torch.Tensor, "N T J 3"], exists_NT: Bool[torch.Tensor, "N T"]
) -> Float[torch.Tensor, "N T J 3"]:
    """From each frame to the next, metres; zero in the last frame and before one that does not exist."""
    both = exists_NT[:, 1:] & exists_NT[:, :-1]
    moved = torch.where(both[:, :, None, None], x_NTJ3[:, 1:] - x_NTJ3[:, :-1], 0.0)
    return F.pad(moved, (0, 0, 0, 0, 0, 1))


def normalised(x_NSJC: Float[torch.Tensor, "N S J C"]) -> Float[torch.Tensor, "N S J C"]:
    """Each patch less its mean, over its standard deviation: what is told is how a joint moves, not how far."""
    centre = x_NSJC - x_NSJC.mean(dim=-1, keepdim=True)
    # torch's `var` warns where there is no patch at all
    variance = centre.square().sum(dim=-1, keepdim=True) / (x_NSJC.shape[-1] - 1)
    return centre / (variance + _EPS_VARIANCE).sqrt()


def motion_intensity(
    x_NSJC: Float[torch.Tensor, "N S J C"], exists_NS: Bool[torch.Tensor, "N S"]
) -> Float[torch.Tensor, "N S J"]:
    """How far a joint is from where it was a step before, metres: the mean over the channels of the patch.

    The first step takes the value of the second, and so does every step that follows one that does not exist; a step
    without neighbours counts as still.
    """
    both_NS = exists_NS[:, 1:] & exists_NS[:, :-1]
    moved = torch.where(both_NS[..., None], (x_NSJC[:, 1:] - x_NSJC[:, :-1]).abs().mean(dim=-1), 0.0)
    before, after = F.pad(moved, (0, 0, 1, 0)), F.pad(moved, (0, 0, 0, 1))
    return torch.where(F.pad(both_NS, (1, 0))[..., None], before, after)


def gumbel(num_N: int, num_L: int, generator: torch.Generator) -> Float[torch.Tensor, "N L"]:
    """Noise of the standard Gumbel distribution, on the generator's device."""
    noise = torch.empty(num_N, num_L, device=generator.device)
    return -noise.exponential_(generator=generator).log()


def seen_patches(
    intensity_NL: Float[torch.Tensor, "N L"],
    exists_NL: Bool[torch.Tensor, "N L"],
    noise_NL: Float[torch.Tensor, "N L"],
    mask_ratio: float,
    temperature: float,
) -> tuple[Int[torch.Tensor, "N K"], Bool[torch.Tensor, "N K"]]:
    """Which patches stay, by motion-aware masking: those of the lowest log-probability plus Gumbel noise.

    The hidden ones are thereby drawn one after the other without replacement, each with a probability that is the
    softmax of its intensity over temperature times the sample's largest intensity.

    Args:
        noise_NL: of `gumbel`.

    Returns:
        Indices of the patches that stay, and which of them count: of n patches that exist, n (1 - mask_ratio) rounded
        down stay, and at least one.
    """
    # 1 - 0.9 falls short of 0.1 in binary: 74 of 750 patches stay, not 75, and so they do in the authors' code
    share = 1 - mask_ratio
    most = max(int(exists_NL.shape[1] * share), 1)
    num_N = (exists_NL.sum(dim=1).double() * share).long().clamp(min=1)
    intensity_NL = intensity_NL.masked_fill(~exists_NL, 0.0)
    scale_N1 = intensity_NL.amax(dim=1, keepdim=True) * temperature + _EPS_INTENSITY
    log_probability_NL = (intensity_NL / scale_N1).masked_fill(~exists_NL, -torch.inf).log_softmax(dim=1)
    score_NL = (log_probability_NL + noise_NL).masked_fill(~exists_NL, torch.inf)
    index_NK = score_NL.argsort(dim=1, stable=True)[:, :most]
    order_K = torch.arange(most, device=index_NK.device)
    return index_NK, (order_K < num_N[:, None]) & exists_NL.gather(1, index_NK)


class Positions(nn.Module):
    """Learned embeddings of the step and of the joint, added."""

    def __init__(self, config: MampConfig) -> None:
        super().__init__()
        self.step = nn.Parameter(torch.empty(config.steps, config.width))
        self.joint = nn.Parameter(torch.empty(config.joints, config.width))
        for embedding in (self.step, self.joint):
            nn.init.trunc_normal_(embedding, std=0.02)

    def forward(self, num_tokens: int) -> Float[torch.Tensor, "L D"]:
        num_steps = num_tokens // len(self.joint)
        return (self.step[:num_steps, None] + self.joint).flatten(0, 1)


class Mamp(nn.Module):
    """The encoder that is learned, and the decoder that is left behind."""

    def __init__(self, config: MampConfig) -> None:
        super().__init__()
        c = self.config = config
        num_C = 3 * c.patch_frames
        # a convolution whose stride is its kernel, one joint wide, is a linear layer over patches
        self.embed = nn.Linear(num_C, c.width)
        self.positions = Positions(c)
        dropped = [c.drop_path * i / max(c.encoder_layers - 1, 1) for i in range(c.encoder_layers)]
        self.encoder = nn.ModuleList(Block(c.width, c.heads, c.ffn_ratio, Dropping(path=share)) for share in dropped)
        self.encoder_norm = nn.LayerNorm(c.width)
        self.decoder_embed = nn.Linear(c.width, c.width)
        self.mask_token = nn.Parameter(torch.empty(c.width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder_positions = Positions(c)
        self.decoder = nn.ModuleList(Block(c.width, c.heads, c.ffn_ratio) for _ in range(c.decoder_layers))
        self.decoder_norm = nn.LayerNorm(c.width)
        self.predict = nn.Linear(c.width, num_C)
        self.apply(initialise)

    def loss(self, batch: SkeletonBatch, generator: torch.Generator) -> SystemLoss:
        """Mean squared error of the normalised motion of the hidden patches of all people; zero where nobody is.

        The batch is taken as it is; for views of it see `model.baselines.mamp_views`.
        """
        x_NTJ3, exists_NT = self._people(batch)
        exists_NS = patch_exists(exists_NT[:, None], self.config.patch_frames)[:, 0]
        # drawn before those who are nowhere are left out: what they hold must not move the others' noise
        noise_NL = gumbel(len(x_NTJ3), exists_NS.shape[1] * self.config.joints, generator)
        there = exists_NS.any(dim=1).nonzero()[:, 0]
        x_NTJ3, exists_NT, exists_NS = x_NTJ3[there], exists_NT[there], exists_NS[there]
        x_NSJC = patchify(x_NTJ3, self.config.patch_frames)
        target_NLC = normalised(patchify(motion(x_NTJ3, exists_NT), self.config.patch_frames)).flatten(1, 2)
        exists_NL = exists_NS.repeat_interleave(self.config.joints, dim=1)
        index_NK, seen_NK = seen_patches(
            motion_intensity(x_NSJC, exists_NS).flatten(1, 2),
            exists_NL,
            noise_NL.to(x_NSJC.device)[there],
            self.config.mask_ratio,
            self.config.temperature,
        )
        z_NKD = self.encode_seen(x_NSJC.flatten(1, 2), index_NK, seen_NK)
        predicted_NLC = self.decode(z_NKD, index_NK, seen_NK, exists_NL)
        hidden_NL = exists_NL & ~torch.zeros_like(exists_NL).scatter(1, index_NK, seen_NK)
        error_NL = (predicted_NLC.to(target_NLC.dtype) - target_NLC).square().mean(dim=-1)
        total = torch.where(hidden_NL, error_NL, 0.0).sum() / hidden_NL.sum().clamp(min=1)
        return SystemLoss(total, {"motion": total.detach()})

    def encode(self, batch: SkeletonBatch) -> StepTokens:
        """One token for each `patch_frames` frames: the mean over joints, then over the people who are there.

        Nothing is resized, so that a step is as long in every sequence.
        """
        training = self.training
        self.eval()  # nothing is dropped
        try:
            z_BPSD = self.features(batch).mean(dim=3)
        finally:
            self.train(training)
        exists_BPS = patch_exists(batch.exists, self.config.patch_frames)
        num_BS1 = exists_BPS.sum(dim=1).clamp(min=1)[..., None]
        return StepTokens(z_BPSD.sum(dim=1) / num_BS1, exists_BPS.any(dim=1), self.config.patch_frames)

    def features(self, batch: SkeletonBatch) -> Float[torch.Tensor, "B P S J D"]:
        """The encoder's tokens of all patches, nothing hidden; zero where a patch does not exist (`patch_exists`)."""
        x_NTJ3, exists_NT = self._people(batch)
        exists_NS = patch_exists(exists_NT[:, None], self.config.patch_frames)[:, 0]
        there = exists_NS.any(dim=1).nonzero()[:, 0]
        x_NLC = patchify(x_NTJ3[there], self.config.patch_frames).flatten(1, 2)
        exists_NL = exists_NS[there].repeat_interleave(self.config.joints, dim=1)
        every_NL = torch.arange(x_NLC.shape[1], device=x_NLC.device).expand(exists_NL.shape)
        z_NLD = torch.where(exists_NL[..., None], self.encode_seen(x_NLC, every_NL, exists_NL), 0.0)
        z_NLD = z_NLD.new_zeros(len(x_NTJ3), *z_NLD.shape[1:]).index_put((there,), z_NLD)
        return z_NLD.unflatten(1, (-1, self.config.joints)).unflatten(0, batch.exists.shape[:2])

    def encode_seen(
        self,
        x_NLC: Float[torch.Tensor, "N L C"],
        index_NK: Int[torch.Tensor, "N K"],
        seen_NK: Bool[torch.Tensor, "N K"],
    ) -> Float[torch.Tensor, "N K D"]:
        """Tokens of the patches that are seen; no other patch is read, and those that do not count reach none."""
        x_NKC = x_NLC.gather(1, index_NK[..., None].expand(-1, -1, x_NLC.shape[2]))
        z_NKD = self.embed(x_NKC) + self.positions(x_NLC.shape[1])[index_NK]
        return self.encoder_norm(_through(self.encoder, z_NKD, seen_NK))

    def decode(
        self,
        z_NKD: Float[torch.Tensor, "N K D"],
        index_NK: Int[torch.Tensor, "N K"],
        seen_NK: Bool[torch.Tensor, "N K"],
        exists_NL: Bool[torch.Tensor, "N L"],
    ) -> Float[torch.Tensor, "N L C"]:
        """The normalised motion of every patch, from the tokens of those that were seen."""
        z_NKD = self.decoder_embed(z_NKD)
        z_NKD = torch.where(seen_NK[..., None], z_NKD, self.mask_token.to(z_NKD.dtype))
        z_NLD = self.mask_token.to(z_NKD.dtype).expand(*exists_NL.shape, -1)
        z_NLD = z_NLD.scatter(1, index_NK[..., None].expand_as(z_NKD), z_NKD) + self.decoder_positions(z_NLD.shape[1])
        return self.predict(self.decoder_norm(_through(self.decoder, z_NLD, exists_NL)))

    def encoder_depths(self) -> list[list[nn.Parameter]]:
        """The encoder's parameters from the input on: what makes tokens, each block, the closing norm."""
        stem = [*self.embed.parameters(), *self.positions.parameters()]
        return [stem, *(list(block.parameters()) for block in self.encoder), list(self.encoder_norm.parameters())]

    def _people(self, batch: SkeletonBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Joints (N, T, J, 3) and existence (N, T) of each person of each sequence, filled up to whole steps."""
        num_T, num_J = batch.joints_m.shape[2:4]
        if num_T > self.config.frames or num_J != self.config.joints:
            problem = f"{num_T} frames of {num_J} joints, for {self.config.frames} frames of {self.config.joints}"
            raise InputError("batch of skeletons", problem, "cut it, resize it, or change MampConfig.frames and joints")
        if self.config.origin_joint is not None:
            batch = centred(batch, self.config.origin_joint)
        missing = -num_T % self.config.patch_frames
        exists_NT = F.pad(batch.exists.flatten(0, 1), (0, missing))
        x_NTJ3 = F.pad(batch.joints_m.flatten(0, 1), (0, 0, 0, 0, 0, missing))
        return torch.where(exists_NT[..., None, None], x_NTJ3, 0.0), exists_NT


def _through(blocks: nn.ModuleList, z_NLD: torch.Tensor, exists_NL: torch.Tensor) -> torch.Tensor:
    # a mask keeps torch from its fastest attention, and the paper's sequences need none: all are of one length
    allowed_NLL = None if bool(exists_NL.all()) else among(exists_NL)
    for block in blocks:
        z_NLD = block(z_NLD, None, allowed_NLL)
    return z_NLD

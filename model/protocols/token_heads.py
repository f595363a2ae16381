"""The paper's decoding, prediction and interpolation heads on the frozen tokens of any encoder (methods 1.8).

Scenes hold the tokens (`model.scenes`); `heads` has the networks. The decoder is trained first and then frozen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from core.arrays import Float
from dataset.features import NUM_FEATURE_JOINTS
from model import heads
from model.scenes import Scenes


@dataclass(frozen=True)
class HeadConfig:
    """Size and training of the heads.

    Attributes:
        steps: of each head's training.
        batch_size: windows in a step.
        lr: learning rate, falling along a cosine.
        attention_heads: of every layer; they divide the width of the tokens.
        layers: of each head.
        prediction_width: channels of the prediction head.
        seed: of weights and batches.
    """

    steps: int = 100
    batch_size: int = 16
    lr: float = 2e-3
    attention_heads: int = 4
    layers: int = 4
    prediction_width: int = 64
    seed: int = 0


class TokenHeads:
    """Heads for tokens of one width.

    Args:
        width: of the tokens.
        config: settings.
        device: where they are trained.
    """

    def __init__(self, width: int, config: HeadConfig, device: torch.device) -> None:
        self.width, self.config, self.device = width, config, device
        torch.manual_seed(config.seed)
        self.decoder = heads.FrameHead(width, config.attention_heads, config.layers, 3 * NUM_FEATURE_JOINTS).to(device)

    def fit(self, head: nn.Module, train: Scenes, loss_of: Callable[[Scenes], torch.Tensor]) -> None:
        """A few steps of AdamW on random windows with a cosine; the head is frozen then."""
        config = self.config
        optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        rng = np.random.default_rng([config.seed, 3])
        for _ in range(config.steps):
            index = torch.from_numpy(rng.integers(len(train), size=min(config.batch_size, len(train))))
            loss = loss_of(train.rows(index.to(train.joints.device)))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
        head.requires_grad_(False).eval()

    def decode(self, z_BMD: torch.Tensor, motif_BT: torch.Tensor) -> Float[torch.Tensor, "B T J 3"]:
        """Poses from tokens, metres."""
        return self.decoder(z_BMD, motif_BT).unflatten(-1, (NUM_FEATURE_JOINTS, 3))

    def fit_decoder(self, train: Scenes) -> None:
        """Trains the decoder on tokens of everything, from the mean pose on."""
        mean_pose = train.joints[train.valid].mean(dim=0)
        with torch.no_grad():
            self.decoder.out.bias.copy_(mean_pose.flatten())
        self.fit(
            self.decoder,
            train,
            lambda s: heads.decoding_loss(self.decode(s.full.z, s.motif), s.joints, s.valid),
        )

    def fit_prediction(self, train: Scenes) -> heads.PredictionHead:
        """A head that tells the next token and its segment's length."""
        torch.manual_seed(self.config.seed + 1)
        width, config = min(self.config.prediction_width, self.width), self.config
        head = heads.PredictionHead(self.width, width, config.attention_heads, config.layers).to(self.device)
        self.fit(head, train, lambda s: self._prediction_loss(head, s))
        return head

    def _prediction_loss(self, head: heads.PredictionHead, s: Scenes) -> torch.Tensor:
        """L_token + L_dec + L_segm (methods 1.8) over what follows the visible segments."""
        told_BM = s.full.exists & ~s.seen.exists
        z_BMD = torch.where(s.seen.exists[..., None], s.seen.z, s.full.z)
        next_BMD, log_length_BM = head(z_BMD, s.full.exists, s.full.time)
        ahead_BMD = torch.cat([z_BMD[:, :1], next_BMD[:, :-1]], dim=1)
        length_error_BM = (log_length_BM[:, :-1] - s.full.length[:, 1:].clamp(min=1).log()).abs()
        mixed_BMD = torch.where(told_BM[..., None], ahead_BMD, z_BMD)
        return (
            heads.token_loss(ahead_BMD, s.full.z, told_BM)
            + heads.decoding_loss(self.decode(mixed_BMD, s.motif), s.joints, s.hidden & s.valid)
            + (length_error_BM * told_BM[:, 1:]).sum() / told_BM[:, 1:].sum().clamp(min=1)
        )

    @torch.no_grad()
    def predict(self, head: heads.PredictionHead, s: Scenes) -> Float[torch.Tensor, "B T J 3"]:
        """Token after token, each with its own length, until the window is full; then decoded."""
        num_frames = s.valid.shape[1]
        tokens = s.seen.z.clone()
        exists, time = s.seen.exists.clone(), s.seen.time.clone()
        motif = torch.where(s.hidden, -1, s.motif)
        filled_B = s.hidden.int().argmax(dim=1)
        frames_T = torch.arange(num_frames, device=tokens.device)
        rows = torch.arange(len(s), device=tokens.device)
        place_B = exists.int().sum(dim=1)  # visible segments are the first ones
        room = num_frames - tokens.shape[1] + 1
        tokens, exists, time = (F.pad(t, (0, 0) * (t.ndim - 2) + (0, room)) for t in (tokens, exists, time))
        # every turn fills at least a frame of each unfinished row, so there is a place for each new token
        while bool((filled_B < num_frames).any()):
            next_BMD, log_length_BM = head(tokens, exists, time)
            length_B = log_length_BM[rows, place_B - 1].exp().round().clamp(min=1)
            span_BT = (frames_T >= filled_B[:, None]) & (frames_T < (filled_B + length_B)[:, None])
            motif = torch.where(span_BT, place_B[:, None], motif)
            tokens[rows, place_B] = next_BMD[rows, place_B - 1]
            exists[rows, place_B] = True
            time[rows, place_B] = filled_B + (length_B - 1) / 2
            filled_B = (filled_B + length_B.long()).clamp(max=num_frames)
            place_B = (place_B + 1).clamp(max=num_frames)
        return self.decode(tokens, torch.where(s.valid, motif, -1))

    def fit_interpolation(self, train: Scenes) -> heads.InterpolationHead:
        """A head that tells the missing tokens, and the others as they are with everything seen."""
        torch.manual_seed(self.config.seed + 2)
        head = heads.InterpolationHead(self.width, self.config.attention_heads, self.config.layers).to(self.device)

        def loss(s: Scenes) -> torch.Tensor:
            z_BMD = self._between(head, s)
            decoded = self.decode(z_BMD, s.motif)
            return heads.token_loss(z_BMD, s.full.z, s.full.exists) + heads.decoding_loss(decoded, s.joints, s.valid)

        self.fit(head, train, loss)
        return head

    @torch.no_grad()
    def interpolate(self, head: heads.InterpolationHead, s: Scenes) -> Float[torch.Tensor, "B T J 3"]:
        """Poses of the whole window; it is told how many segments are missing and when each begins."""
        return self.decode(self._between(head, s), s.motif)

    def _between(self, head: heads.InterpolationHead, s: Scenes) -> torch.Tensor:
        return head(s.seen.z, s.full.exists & ~s.seen.exists, s.full.exists, s.full.time)

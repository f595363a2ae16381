"""Simple guesses that a head must beat: straight lines, ridge regression, one pose for each Motif."""

from __future__ import annotations

import numpy as np
import torch

from model.metrics import ridge
from model.scenes import MIN_PAST, Scenes

_RIDGE_ALPHA = 1.0  # on metres; the fit hardly changes between 0.1 and 10


def mean_by_motif(s: Scenes) -> torch.Tensor:
    """True mean pose of each Motif (B, M, 3J): the best that a pose for each token could do."""
    member_BMT = s.motif[:, None, :] == torch.arange(s.full.z.shape[1], device=s.motif.device)[None, :, None]
    return member_BMT.float() @ s.joints.flatten(2) / member_BMT.sum(dim=-1, keepdim=True).clamp(min=1)


def linear(s: Scenes) -> torch.Tensor:
    """Straight lines between the last frame before the gap and the first after it."""
    joints, hidden = s.joints.cpu().numpy().copy(), s.hidden.cpu().numpy()
    for row, gap in zip(joints, hidden, strict=True):
        first, last = np.flatnonzero(gap)[[0, -1]]
        weight = (np.arange(first, last + 1) - (first - 1)) / (last - first + 2)
        row[first : last + 1] = row[first - 1] + weight[:, None, None] * (row[last + 1] - row[first - 1])
    return torch.from_numpy(joints)


def ridge_prediction(train: Scenes, test: Scenes, first_B: torch.Tensor, horizon: int) -> torch.Tensor | None:
    """Future displacements from the last frames by ridge regression; None where no training window is long enough."""
    x, y = [], []
    for joints, valid in zip(train.joints.cpu().numpy(), train.valid.cpu().numpy(), strict=True):
        for t in range(MIN_PAST, int(valid.sum()) - horizon + 1):
            x.append((joints[t - MIN_PAST : t] - joints[t - 1]).ravel())
            y.append((joints[t : t + horizon] - joints[t - 1]).ravel())
            x[-1] = np.concatenate([x[-1], joints[t - 1].ravel()])
    if not x or int(first_B.min()) < MIN_PAST:
        return None
    weights = ridge(np.stack(x), np.stack(y), _RIDGE_ALPHA)
    guess = test.joints.cpu().numpy().copy()
    for row, t in zip(guess, first_B.tolist(), strict=True):
        past = np.concatenate([(row[t - MIN_PAST : t] - row[t - 1]).ravel(), row[t - 1].ravel(), [1.0]])
        row[t : t + horizon] = row[t - 1] + (past @ weights).reshape(horizon, *row.shape[1:])
    return torch.from_numpy(guess.astype(np.float32))

"""What frozen tokens are good for: recognition, decoding, prediction, interpolation, each beside a simple reference.

Heads are trained on the training split and judged on the test split (validation where there is none). Where all data is
for training, the figures are taken on it and say so: they are then no evidence. Positions are those of the frame
vector: heading-aligned, without the pelvis's path, of the body scaled to one leg length.

Prediction and interpolation see no pose of the frames that they are asked for: the tokens around the gap are computed
without them. Gaps begin and end where Motifs do, and interpolation is told how many Motifs are missing and when each
begins, as in the paper; these borders were found on the whole clip and so know a little of what is hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.files import write_json
from dataset.features import NUM_FEATURE_JOINTS
from dataset.loader import WindowRef, WindowSampler
from dataset.shards import AmdDataset
from model import heads
from model.devices import choose_device, reproducible
from model.loading import TrainedRun, load_run
from model.metrics import mpjpe_mm
from model.protocols.token_heads import HeadConfig, TokenHeads
from model.recognition import recognition
from model.references import linear, mean_by_motif, ridge_prediction
from model.scenes import Hide, Scenes, concatenate, hide_future, hide_gap, hide_nothing, make_scenes
from model.settings import EvalConfig
from model.windows import Segmentation, iterate_windows, whole_windows

# A stationary sequence says nothing about prediction; the paper leaves its threshold open.
_MOVING_M_S = 0.05


def evaluate(
    run: Path, dataset: Path, out: Path, config: EvalConfig | None = None, *, device: str = "auto"
) -> dict[str, Any]:
    """Judges a run on a dataset and writes the figures to a JSON file.

    Args:
        run: folder of a training run that has come past its mining.
        dataset: folder of the dataset.
        out: file to write.
        config: settings; None for the defaults.
        device: see `model.train.train`.

    Returns:
        `split` (what was judged on), and for each task its figures beside the references', or why it was left out.
    """
    config = EvalConfig() if config is None else config
    trained, data = load_run(run, choose_device(device)), AmdDataset(dataset)
    with reproducible(trained.recipe.threads):
        figures = _Evaluation(trained, data, config).figures()
    write_json(out, figures)
    return figures


class _Evaluation:
    """Shared by the tasks: the run, the splits, and the decoder that prediction and interpolation go through."""

    def __init__(self, trained: TrainedRun, dataset: AmdDataset, config: EvalConfig) -> None:
        self.trained, self.dataset, self.config = trained, dataset, config
        self.rate_hz = trained.recipe.data.rate_hz
        self.split = next((s for s in ("test", "val") if dataset.of_split(s)), "train")
        self.segmentation: Segmentation = trained.segment(dataset, dataset.clips)
        model = trained.recipe.model
        settings = HeadConfig(
            config.steps, config.batch_size, config.lr, model.heads, min(4, model.latent_layers), seed=config.seed
        )
        self.heads = TokenHeads(model.width, settings, trained.device)

    def figures(self) -> dict[str, Any]:
        """All tasks."""
        note = "held out" if self.split != "train" else "judged on the training data itself: no evidence"
        found: dict[str, Any] = {"split": self.split, "note": note, "step": self.trained.step}
        found["recognition"] = recognition(
            self.trained, self.dataset, self.segmentation, self.split, self.config.neighbours, self.config.steps
        )
        train, test = self._scenes("train", hide_nothing), self._scenes(self.split, hide_nothing)
        found["decoding"] = self._decoding(train, test)
        horizon = round(self.config.horizon_s * self.rate_hz)
        found["prediction"] = self._task("future", hide_future(horizon), self._prediction, horizon)
        gap = round(self.config.gap_s * self.rate_hz)
        found["interpolation"] = self._task("gap", hide_gap(gap), self._interpolation, gap)
        return found

    def _task(
        self, what: str, hide: Hide, task: Callable[[Scenes, Scenes, int], dict[str, Any]], frames: int
    ) -> dict[str, Any]:
        train, test = self._scenes("train", hide), self._scenes(self.split, hide)
        if train is None or test is None:
            return {"left_out": f"no window has room for a {what} of {frames / self.rate_hz:g} s between Motifs"}
        return {"seconds": frames / self.rate_hz, "windows": len(test), **task(train, test, frames)}

    def _refs(self, split: str) -> list[WindowRef]:
        """Random windows for training, regular ones for judging."""
        window_s, config = self.trained.recipe.data.window_s, self.config
        if split != "train" or self.split == "train":
            refs = whole_windows(self.dataset, split, window_s)
            chosen = np.unique(np.linspace(0, len(refs) - 1, config.test_windows).astype(int))
            judged = [refs[i] for i in chosen]
            if split != "train":
                return judged
        sampler = WindowSampler(self.dataset, "train", window_s, self.rate_hz, config.seed, batch_size=8)
        drawn = [ref for step in range(-(-config.train_windows // 8)) for ref in sampler.refs(step)]
        return drawn if self.split != "train" else drawn + judged

    def _scenes(self, split: str, hide: Hide) -> Any:
        """Windows of a split whose Motifs leave room for what is to be hidden; None if there are none."""
        found: list[Scenes] = []
        recipe = self.trained.recipe
        batches = iterate_windows(self.dataset, self._refs(split), self.segmentation, recipe.data, 32)
        for _, batch, _ in batches:
            scenes = make_scenes(self.trained.model, batch, hide)
            found += [] if scenes is None else [scenes]
        return concatenate(found) if found else None

    def _decoding(self, train: Scenes, test: Scenes) -> dict[str, Any]:
        """Poses back from Motif tokens; the references know the true poses' mean, overall or of each Motif."""
        mean_pose = train.joints[train.valid].mean(dim=0)
        self.heads.fit_decoder(train)
        of_motif = heads.repeat_by_length(mean_by_motif(test), test.motif).unflatten(-1, (NUM_FEATURE_JOINTS, 3))
        return {
            "windows": len(test),
            "mpjpe_mm": _score(self.heads.decode(test.full.z, test.motif), test, test.valid),
            "reference_mean_pose_mm": _score(mean_pose.expand_as(test.joints), test, test.valid),
            "reference_true_motif_mean_mm": _score(of_motif, test, test.valid),
        }

    def _prediction(self, train: Scenes, test: Scenes, horizon: int) -> dict[str, Any]:
        """Autoregressive roll-out, against the last pose and against ridge regression on the last two seconds."""
        head = self.heads.fit_prediction(train)
        first_B = test.hidden.int().argmax(dim=1)
        frames_BT = torch.arange(test.valid.shape[1], device=first_B.device)[None] - first_B[:, None]
        asked_BT = (frames_BT >= 0) & (frames_BT < horizon) & test.valid
        last_B = (first_B - 1)[:, None, None, None].expand(-1, 1, *test.joints.shape[2:])
        guesses = {
            "mpjpe_mm": self.heads.predict(head, test),
            "reference_zero_velocity_mm": torch.gather(test.joints, 1, last_B).expand_as(test.joints),
        }
        by_ridge = ridge_prediction(train, test, first_B, horizon)
        if by_ridge is not None:
            guesses["reference_ridge_mm"] = by_ridge
        return _scores(guesses, test, asked_BT, self.rate_hz)

    def _interpolation(self, train: Scenes, test: Scenes, _: int) -> dict[str, Any]:
        """Hidden Motifs from both sides, against straight lines between the frames around the gap."""
        head = self.heads.fit_interpolation(train)
        guesses = {"mpjpe_mm": self.heads.interpolate(head, test), "reference_linear_mm": linear(test)}
        return _scores(guesses, test, test.hidden & test.valid, self.rate_hz)


def _score(guess: torch.Tensor, s: Scenes, at_BT: torch.Tensor) -> float:
    return mpjpe_mm(guess.detach().cpu().numpy(), s.joints.cpu().numpy(), at_BT.cpu().numpy())


def _scores(guesses: Mapping[str, torch.Tensor], s: Scenes, at_BT: torch.Tensor, rate_hz: float) -> dict[str, Any]:
    """MPJPE over all windows, and over those in which the person moves."""
    step = s.joints.diff(dim=1).norm(dim=-1).mean(dim=-1) * rate_hz
    pair = s.valid[:, 1:] & s.valid[:, :-1]
    moving_B = (step * pair).sum(dim=1) / pair.sum(dim=1).clamp(min=1) >= _MOVING_M_S
    found: dict[str, Any] = {name: _score(guess, s, at_BT) for name, guess in guesses.items()}
    moving = {name: _score(guess, s, at_BT & moving_B[:, None]) for name, guess in guesses.items()}
    return {**found, "moving_only": {"windows": int(moving_B.sum()), "threshold_m_s": _MOVING_M_S, **moving}}

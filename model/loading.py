"""A trained run, ready for use: its recipe, its network and its lexicon."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from core.errors import InputError, StageError
from core.files import read_json
from dataset.schema import ClipInfo
from dataset.shards import AmdDataset
from model.a4mer import A4Mer
from model.checkpoint import load_checkpoint
from model.lexicon import Lexicon, apply_lexicon
from model.recipes import Recipe, config_from_json
from model.run import CHECKPOINT, CONFIG
from model.windows import ClipTokens, Segmentation, encode_clips, find_atoms


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """What `train` left in a folder.

    Attributes:
        path: the folder.
        recipe: what it was trained by.
        step: steps done.
        model: the network, in evaluation mode.
        lexicon: codes and patterns.
    """

    path: Path
    recipe: Recipe
    step: int
    model: A4Mer
    lexicon: Lexicon

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.model.feature_mean.device

    def segment(self, dataset: AmdDataset, clips: tuple[ClipInfo, ...]) -> Segmentation:
        """Atoms and Motifs of clips of any dataset."""
        recipe = self.recipe
        atoms = find_atoms(dataset, clips, recipe.data, recipe.atoms)
        return apply_lexicon(
            self.lexicon, recipe.model, dataset, clips, atoms, recipe.data, recipe.mining, self.device
        )  # fmt: skip

    def encode(
        self, dataset: AmdDataset, clips: tuple[ClipInfo, ...], segmentation: Segmentation, *, untrained: bool = False
    ) -> dict[str, ClipTokens]:
        """Tokens of clips; with `untrained`, of the same network before its first step, as a control."""
        model = self.model
        if untrained:
            torch.manual_seed(self.recipe.seed)
            model = A4Mer(self.recipe.model).to(self.device).eval()
            model.set_statistics(self.model.feature_mean, self.model.feature_scale)
        return encode_clips(model, dataset, clips, segmentation, self.recipe.data)


def load_run(path: Path, device: torch.device) -> TrainedRun:
    """Reads a run.

    Raises:
        InputError: if the folder holds no run, or it is damaged.
        StageError: if the run has not come to its mining yet.
    """
    if not (path / CONFIG).is_file() or not (path / CHECKPOINT).is_file():
        raise InputError(str(path), "holds no training run", "train one: `motifs train`")
    config = read_json(path / CONFIG)
    recipe = config_from_json(Recipe, config.get("recipe") if isinstance(config, dict) else None, str(path / CONFIG))
    checkpoint = load_checkpoint(path / CHECKPOINT)
    if checkpoint.lexicon is None:
        raise StageError(
            str(path),
            f"has no Motifs yet: {checkpoint.step} of {recipe.stage1_steps} steps before the mining",
            "go on with `motifs train`",
        )
    model = A4Mer(recipe.model)
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:  # torch lists every weight; its first line says what is wrong
        reason = str(error).splitlines()[0]
        raise InputError(str(path / CHECKPOINT), f"not of the recipe beside it ({reason})", "train again") from error
    return TrainedRun(path, recipe, checkpoint.step, model.to(device).eval(), checkpoint.lexicon)

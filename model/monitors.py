"""Is the representation still one: spread of the tokens, use of the codes, length of the Motifs.

A collapse is silent: with every token at one point the loss is as small as it can be. Tokens are judged at every
evaluation after the warm-up; a run whose tokens are found collapsed twice in a row ends with the figure that shows it.
Codes and Motifs are judged when they are mined. What is odd but may be the data's is flagged and goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.errors import StageError
from dataset.schema import ClipInfo
from model.lexicon import Lexicon
from model.metrics import perplexity
from model.windows import Segmentation


@dataclass(frozen=True)
class MonitorConfig:
    """What is no longer a representation.

    Attributes:
        min_token_sd: spread of the tokens, mean over channels; they are normed, so healthy ones have 0.3 to 1.
        min_token_rank: effective number of directions that they take.
        min_code_use: effective number of codes in use, over all codes.
        min_motif_atoms: mean Atoms of a Motif; 1 if no pattern was found.
        max_motif_windows: mean length of a Motif over that of a window; no context is left of a longer one.
    """

    min_token_sd: float = 0.05
    min_token_rank: float = 1.5
    min_code_use: float = 0.1
    min_motif_atoms: float = 1.05
    max_motif_windows: float = 0.5


def token_flags(figures: Mapping[str, Any], config: MonitorConfig) -> list[str]:
    """What is wrong with the tokens of an evaluation, in words; nothing if they are well."""
    flags = []
    for name in ("atom", "motif"):
        sd, rank = figures.get(f"{name}_sd"), figures.get(f"{name}_rank")
        if sd is not None and sd < config.min_token_sd:
            flags.append(f"{name} tokens have collapsed to a point: spread {sd:.2g} < {config.min_token_sd:g}")
        elif rank is not None and rank < config.min_token_rank:
            flags.append(
                f"{name} tokens have collapsed to a line: effective rank {rank:.3g} < {config.min_token_rank:g}"
            )
    return flags


def refuse_collapse(step: int, flags: Sequence[str], before: Sequence[str]) -> None:
    """Ends a run whose tokens were collapsed at its last evaluation and still are.

    Raises:
        StageError: with the figure.
    """
    if flags and before:
        raise StageError(
            f"step {step}",
            flags[0],
            "start another run: a lower optim.lr, a longer warm-up, model.ema_decay nearer to 1",
        )


def mining_figures(
    lexicon: Lexicon, segmentation: Segmentation, clips: Sequence[ClipInfo], rate_hz: float
) -> dict[str, Any]:
    """Counts and mean lengths of the codes, patterns, Atoms and Motifs of the training clips."""
    seconds = sum(clip.duration_s for clip in clips)
    codes, types = (np.concatenate([part[c.id] for c in clips]) for part in (segmentation.codes, segmentation.types))
    patterns = lexicon.patterns
    return {
        "codes": patterns.num_codes,
        "codes_used": len(np.unique(codes)),
        "code_perplexity": perplexity(codes),
        "patterns_by_length": {n: len(p) for n, p in patterns.by_length.items()},
        "motif_types_used": len(np.unique(types)),
        "atoms": len(codes),
        "motifs": len(types),
        "atom_s": seconds / len(codes),
        "motif_s": seconds / len(types),
        "motif_frames": seconds / len(types) * rate_hz,
    }


def mining_flags(figures: Mapping[str, Any], window_s: float, config: MonitorConfig) -> list[str]:
    """What is odd about codes and Motifs, in words.

    Raises:
        StageError: if all Atoms have one code: there is nothing to mine.
    """
    if figures["codes_used"] < 2:
        problem = f"all {figures['atoms']} Atoms have one code: the tokens of stage 1 have collapsed"
        raise StageError("mining", problem, "start another run: a lower optim.lr, or more steps of stage 1")
    use, atoms_each = figures["code_perplexity"] / figures["codes"], figures["atoms"] / figures["motifs"]
    share = figures["motif_s"] / window_s
    flags = []
    if use < config.min_code_use:
        flags.append(f"few of {figures['codes']} codes are in use: {figures['code_perplexity']:.3g} effectively")
    if atoms_each < config.min_motif_atoms:
        flags.append(f"hardly any pattern was found: a Motif has {atoms_each:.3g} Atoms on average")
    if share > config.max_motif_windows:
        flags.append(f"Motifs are {figures['motif_s']:.3g} s long on average, in windows of {window_s:g} s")
    return flags

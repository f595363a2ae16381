"""Long untrimmed sessions from labelled clips, with every boundary known: for judging what finds boundaries.

Clips are taken apart where their labels change, and the pieces of one person are put together in another order, drawn
from a seed: of some candidates the one whose beginning is most like the end so far. `dataset.blending` makes the joins.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from core.arrays import Int
from core.errors import InputError
from dataset.blending import aligned, joined, mixed, standing
from dataset.bones import Bones
from dataset.cutting import mark_non_finite, part, runs_of
from dataset.features import local_joints
from dataset.labels import in_vocabulary, joint_vocabulary
from dataset.reclock import clip_at_rate
from dataset.schema import Clip

# a pose in which no foot stands on both sides of a join counts as this much further away, metres
_NO_STANCE_M = 0.1


@dataclass(frozen=True)
class StitchConfig:
    """How sessions are stitched.

    Attributes:
        session_s: a session is closed once it is this long, seconds.
        blend_s: from the last frame that is only the one clip's to the first that is only the other's, seconds; brought
            to an even number of frames.
        min_piece_s: shorter stretches of one labelling are not used, seconds.
        candidates: pieces among which the next is chosen; 1 takes whatever was drawn.
        seed: of the order.
    """

    session_s: float = 120.0
    blend_s: float = 0.5
    min_piece_s: float = 1.5
    candidates: int = 8
    seed: int = 0

    def num_mixed(self, rate: Fraction) -> int:
        """Frames of a join that are neither the one clip's nor the other's; odd, so that one is the middle."""
        return 2 * max(round(self.blend_s * float(rate) / 2), 1) - 1


@dataclass(frozen=True, eq=False)
class Stitched:
    """A session.

    Attributes:
        clip: its motion; in its labels, provenance names the pieces and repeats the frames below.
        joins: first frame that carries the next piece's labels, the middle of a mix.
        num_mixed: frames of each mix, as many before the middle as after it.
    """

    clip: Clip
    joins: Int[np.ndarray, "joins"]
    num_mixed: int

    @property
    def boundaries(self) -> Int[np.ndarray, "boundaries"]:
        """First frames of another labelling; all joins where there are no labels."""
        if self.clip.actions is None:
            return self.joins
        return changes(self.clip.actions)


def changes(actions: np.ndarray) -> Int[np.ndarray, "boundaries"]:
    """Frames whose labels differ from those of the frame before."""
    return np.flatnonzero((actions[1:] != actions[:-1]).any(axis=1)) + 1


def boundary_frames(clip: Clip) -> Int[np.ndarray, "boundaries"]:
    """The known boundaries of a stitched session, or of a part of it, from its provenance.

    Raises:
        InputError: if the clip was not stitched.
    """
    if "boundary_frames" not in clip.labels.provenance:
        raise InputError(f"clip {clip.id}", "it was not stitched: nobody knows its boundaries", "give a stitched one")
    frames = np.array(clip.labels.provenance["boundary_frames"], dtype=np.int64)
    frames -= round(clip.labels.start_s * float(clip.rate))
    return frames[(frames > 0) & (frames < len(clip))]


def pieces_of(clip: Clip, config: StitchConfig) -> list[Clip]:
    """Stretches of one labelling without an invalid frame, and long enough; named after the clip and their frames."""
    clip = mark_non_finite(clip)
    least = max(config.min_piece_s * float(clip.rate), 2 * config.num_mixed(clip.rate) + 2)
    edges = [] if clip.actions is None else changes(clip.actions).tolist()
    found = []
    for start, stop in runs_of(clip.frame_valid):
        inner = [edge for edge in edges if start < edge < stop]
        for a, b in zip([start, *inner], [*inner, stop], strict=True):
            if b - a >= least:
                found.append(part(clip, a, b, f"{clip.id}:{a}-{b}"))
    return found


def stitch(clips: Sequence[Clip], name: str, config: StitchConfig | None = None) -> list[Stitched]:
    """All pieces of one person's clips in sessions `<name>-000` and so on; the same arguments give the same numbers.

    Args:
        clips: of one subject, and of one split if the dataset is divided within subjects. All with labels, or none.
        name: of the sessions; good as a file name.
        config: settings; None for the defaults.

    Raises:
        InputError: if the clips are of several people, or labelled in part.
    """
    config = StitchConfig() if config is None else config
    pool = _pieces(clips, name, config)
    rng = np.random.default_rng([config.seed, *name.encode()])
    pool = [pool[i] for i in rng.permutation(len(pool))]
    sessions: list[Stitched] = []
    while pool:
        sessions.append(_session(pool, f"{name}-{len(sessions):03d}", name, config))
    return sessions


def _pieces(clips: Sequence[Clip], name: str, config: StitchConfig) -> list[Clip]:
    """The pieces of all clips, at one rate, with one vocabulary, on one body."""
    if len(people := sorted({clip.labels.subject for clip in clips})) > 1:
        raise InputError(name, f"clips of {len(people)} people, {', '.join(people[:3])}", "stitch each by themselves")
    if len({clip.actions is None for clip in clips}) > 1:
        bare = next(clip.id for clip in clips if clip.actions is None)
        raise InputError(name, f"clip {bare} has no labels, others have", "leave it out, or label it")
    pieces = [p for clip in clips for p in pieces_of(clip_at_rate(clip, clips[0].rate), config)]
    if not pieces:
        return []
    names = joint_vocabulary(clip.labels.action_names for clip in clips)
    body = Bones.of(pieces[0])
    return [body.wear(_with_names(piece, names)) for piece in pieces]


def _with_names(piece: Clip, names: tuple[str, ...]) -> Clip:
    if piece.actions is None:
        return piece
    actions = in_vocabulary(piece.actions, piece.labels.action_names, names, piece.id)
    return dataclasses.replace(piece, actions=actions, labels=dataclasses.replace(piece.labels, action_names=names))


def _session(pool: list[Clip], clip_id: str, session: str, config: StitchConfig) -> Stitched:
    """One session; takes its pieces out of the pool."""
    last = pool.pop(0)
    n, bones = config.num_mixed(last.rate), Bones.of(last)
    done, used, joins = [], [last.id], []
    begin, length = 0, len(last)
    while pool and length < config.session_s * float(last.rate):
        piece = pool.pop(_choose(last, pool, n, config.candidates))
        following = aligned(last, piece, n)
        done += [part(last, begin, len(last) - n, last.id), mixed(last, following, n, bones)]
        joins.append(length - n + n // 2)
        used.append(piece.id)
        last, begin, length = following, n, length + len(piece) - n
    clip = joined([*done, part(last, begin, len(last), last.id)])
    return _described(clip, clip_id, session, np.array(joins, dtype=np.int64), used, config)


def _choose(last: Clip, pool: Sequence[Clip], n: int, candidates: int) -> int:
    """Which of the first candidates begins most like the last ends; other labels go before the same ones."""
    others = [i for i, piece in enumerate(pool) if not _same_labels(last, piece)] or list(range(len(pool)))
    costs = [_distance(last, pool[i], n) for i in others[:candidates]]
    return others[int(np.argmin(costs))]


def _same_labels(first: Clip, second: Clip) -> bool:
    if first.actions is None or second.actions is None:
        return False
    return bool((first.actions[-1] == second.actions[0]).all())


def _distance(first: Clip, second: Clip, n: int) -> float:
    """Root mean square distance of the joints over the mix, in the heading frame, metres; more if no foot stands."""
    tail, head = part(first, len(first) - n, len(first), first.id), part(second, 0, n, second.id)
    apart = local_joints(tail.joints_m) - local_joints(head.joints_m)
    return float(np.sqrt((apart**2).sum(axis=-1).mean())) + _NO_STANCE_M * (1 - float(standing(tail, head).max()))


def _described(
    clip: Clip, clip_id: str, session: str, joins: Int[np.ndarray, "joins"], used: list[str], config: StitchConfig
) -> Stitched:
    n = config.num_mixed(clip.rate)
    stitched = Stitched(clip, joins, n)
    provenance = {
        "source": "stitched",
        "seed": config.seed,
        "pieces": used,
        "join_frames": joins.tolist(),
        "mixed_frames": n,
        "boundary_frames": stitched.boundaries.tolist(),
    }
    labels = dataclasses.replace(clip.labels, session=session, start_s=0.0, provenance=provenance)
    return dataclasses.replace(stitched, clip=dataclasses.replace(clip, id=clip_id, labels=labels))

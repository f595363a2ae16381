"""Atoms found frame by frame, the same as those of the whole recording, after a delay that is known beforehand.

The rules `turns` and `pauses` look at the frames around a cut alone. Eq. A counts errors in units of their spread over
the whole video, which is not known before its end, and is refused.
"""

from __future__ import annotations

import numpy as np

from core.arrays import Bool, Float
from model.atoms import AtomConfig, atom_candidates, future_frames, grid_frame


class AtomStream:
    """Cuts of a stream; feed it frames in pieces of any size, and end it.

    Args:
        rate_hz: frames a second of the stream.
        grid_hz: frames a second of the model's grid.
        config: settings of the rule.

    Raises:
        InputError: if the rule needs the whole recording.
    """

    def __init__(self, rate_hz: float, grid_hz: float, config: AtomConfig) -> None:
        self._rate_hz, self._grid_hz, self._config = rate_hz, grid_hz, config
        self._future = future_frames(rate_hz, config)
        self._pause = max(1, round(config.pause_s * rate_hz))
        self._kept: tuple[np.ndarray, np.ndarray] | None = None
        self._first = 0  # frame of the stream that the kept ones begin with
        self._seen = 0
        self._decided = 0
        self._last_cut = self._last_grid = 0
        self._waiting: list[tuple[int, float]] = [(0, 0.0)]

    @property
    def delay_s(self) -> float:
        """Longest time from the frame at which an Atom begins to the frame with which that is reported."""
        shortest_s = (self._config.min_frames + 0.5) / self._grid_hz
        return max((self._future + 1) / self._rate_hz, shortest_s + 1 / self._rate_hz)

    def push(
        self, joints_m: Float[np.ndarray, "frames joints 3"], valid: Bool[np.ndarray, "frames joints"]
    ) -> list[float]:
        """Takes the next frames; returns the times, seconds from the first frame, of the cuts that are now certain.

        Args:
            joints_m: joints in the heading-aligned frame of the pelvis, metres; one frame or many.
            valid: joints that were measured.
        """
        self._append(joints_m, valid)
        self._decide(self._seen - self._future)
        self._forget()
        return self._report()

    def end(self) -> list[float]:
        """The stream is over: the cuts that were still uncertain."""
        self._decide(self._seen)
        return self._report() if self._seen else []

    def _append(self, joints_m: np.ndarray, valid: np.ndarray) -> None:
        if self._kept is None:
            self._kept = joints_m.astype(np.float64), valid.astype(bool)
        else:
            old_m, old_valid = self._kept
            self._kept = np.concatenate([old_m, joints_m]), np.concatenate([old_valid, valid])
        self._seen += len(joints_m)

    def _decide(self, stop: int) -> None:
        """Accepts the candidates before frame `stop`, as `thinned` does it, on the frames and then on the grid."""
        if self._kept is None or stop <= self._decided:
            return
        candidates = np.flatnonzero(atom_candidates(*self._kept, self._rate_hz, self._config)) + self._first
        for frame in candidates[(candidates >= self._decided) & (candidates < stop)].tolist():
            if frame - self._last_cut >= self._pause:
                self._last_cut = frame
                self._accept(frame / self._rate_hz)
        self._decided = stop

    def _accept(self, time_s: float) -> None:
        place = int(grid_frame(np.array([time_s]), self._grid_hz)[0])
        if place - self._last_grid >= self._config.min_frames:
            self._last_grid = place
            self._waiting.append((place, time_s))

    def _report(self) -> list[float]:
        """Cuts that already have the shortest Atom behind them."""
        num_grid = int((self._seen - 1) / self._rate_hz * self._grid_hz + 1e-6) + 1
        certain = [t for place, t in self._waiting if place == 0 or place <= num_grid - self._config.min_frames]
        self._waiting = self._waiting[len(certain) :]
        return certain

    def _forget(self) -> None:
        """Frames that no later decision needs."""
        assert self._kept is not None
        surplus = self._decided - self._future - self._first
        if surplus > 0:
            self._kept = self._kept[0][surplus:], self._kept[1][surplus:]
            self._first += surplus

"""The body between the instants of a fit."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from fitted import playback_of, sequence_of
from test_fit import STEP_S, walk

from core.errors import InputError
from fitting.playback import CHUNK, Playback
from fitting.sequence import Reason, spoken
from fitting.stand_in import stand_in_body


def test_the_body_moves_between_instants_as_it_does_at_twice_their_rate() -> None:
    fine = walk(stand_in_body(), 41)
    t_s = 7 + STEP_S * np.arange(41)
    coarse = fine.shaped.with_rotations(fine.rotations[::2], (fine.joints[:, 0] - fine.shaped.rest_joints[0])[::2])
    playback = playback_of(coarse, t_s[::2])
    at = playback.at(t_s)
    np.testing.assert_allclose(at.joints[::2], fine.joints[::2], atol=1e-9)
    # the legs of a walk turn at 2.3 rad/s with 13 rad/s^2; a chord of 1/15 s is 7 mrad and 6 mm off at the toes
    assert np.abs(at.joints - fine.joints).max() < 0.008
    nearest = playback_of(coarse, t_s[::2]).shaped.with_rotations(coarse.rotations[np.arange(41) // 2])
    assert np.abs(nearest.joints - nearest.joints[:, :1] - fine.joints + fine.joints[:, :1]).max() > 0.03


def test_times_outside_hold_the_ends() -> None:
    posed = walk(stand_in_body(), 5)
    playback = playback_of(posed, np.arange(5) / 30)
    np.testing.assert_allclose(playback.at(np.array([-3.0, 9.0])).joints, posed.joints[[0, -1]], atol=1e-9)
    assert playback.covers(np.array([-0.1, 0.0, 4 / 30, 0.14])).tolist() == [False, True, True, False]
    alone = playback_of(posed.shaped.with_rotations(posed.rotations[:1]), np.zeros(1))
    assert alone.at(np.array([0.0, 1.0])).joints.shape == (2, 24, 3)


def test_a_moment_knows_what_is_wrong_beside_it() -> None:
    """Several chunks long; frame 40 is not valid, so nothing between 39 and 41 is."""
    num = 2 * CHUNK + 3
    sequence = sequence_of(walk(stand_in_body(), num), np.arange(num) / 10)
    reasons, valid = sequence.reasons.copy(), sequence.joint_valid.copy()
    reasons[40], valid[40, 7] = int(Reason.MISFIT | Reason.UNCERTAIN), False
    playback = Playback.of(dataclasses.replace(sequence, reasons=reasons, joint_valid=valid), stand_in_body())
    t_s = np.array([3.85, 3.93, 4.0, 4.07, 4.1, 4.2, 6.6])
    moments = list(playback.moments(t_s))
    assert [bool(m.reasons) for m in moments] == [False, True, True, True, False, False, False]
    assert [bool(m.joint_valid.all()) for m in moments] == [True, True, False, True, True, True, True]
    assert spoken(moments[2].reasons) == "uncertain, misfit"
    assert [m.t_s for m in moments] == t_s.tolist()
    np.testing.assert_allclose(moments[-1].joint_sigma_m, 0.01)
    np.testing.assert_allclose(moments[2].vertices_m, playback.at(t_s[2:3]).mesh()[0])


def test_another_body_is_refused() -> None:
    body = stand_in_body()
    other = dataclasses.replace(body, v_template=body.v_template + 0.001, name="other")
    with pytest.raises(InputError, match="fitted with the body stand-in, not with other"):
        Playback.of(sequence_of(walk(body, 2), np.arange(2) / 30), other)

"""What stands in the viewer's room: cameras, ways, markers, keypoint rays, and the body with its uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import trimesh
import viser
from scipy.spatial.transform import Rotation

from core.arrays import Float
from core.cameras import Camera
from core.transforms import SE3
from fitting.playback import Playback
from fitting.sequence import Reason
from motifs.viewed import Viewed, Way

_SURE, _WRONG, _UNSURE = (86, 150, 214), (213, 94, 0), (230, 159, 0)
_ROOM, _FOOT, _TARGET, _RAY = (60, 60, 60), (204, 121, 167), (0, 158, 115), (60, 200, 60)
_SIGMAS = 2.0  # radius of the uncertainty that is drawn, standard deviations
_NOTHING_M = 1e-4
_UPRIGHT = (1.0, 0.0, 0.0, 0.0)
_NOWHERE = SE3(np.eye(3), np.array([0.0, 0.0, 1e3]))
_SMALL, _BEHIND_M = 0.25, 3.0  # size of a camera, metres; how far behind the person a picture is put to look through
_WAY_HZ = 10.0  # points a second of a foot camera's way

LAYERS: Mapping[str, bool] = {
    "cameras": True, "foot cameras": True, "markers": True, "names": True, "keypoint rays": False, "uncertainty": True,
}  # fmt: skip
"""Layers that can be shown and hidden, and whether they are at first."""


class Body:
    """The skinned body in the browser: an instant costs the places of its joints.

    Args:
        scene: where it is drawn.
        playback: the body and its motion.
    """

    def __init__(self, scene: viser.SceneApi, playback: Playback) -> None:
        shaped, self._playback = playback.shaped, playback
        rest = np.asarray(shaped.rest_joints, float)
        self._mesh = scene.add_mesh_skinned(
            "/body", np.asarray(shaped.rest_vertices, np.float32), shaped.body.faces.astype(np.uint32),
            bone_wxyzs=np.tile(_UPRIGHT, (len(rest), 1)), bone_positions=rest,
            skin_weights=np.asarray(shaped.body.weights, np.float32), color=_SURE,
        )  # fmt: skip
        ball, joints = trimesh.creation.icosphere(subdivisions=2), playback.sequence.joints_m.shape[1]
        self._clouds = scene.add_batched_meshes_simple(
            "/uncertainty/joints", np.asarray(ball.vertices, np.float32), np.asarray(ball.faces, np.uint32),
            batched_wxyzs=np.tile(_UPRIGHT, (joints, 1)), batched_positions=np.zeros((joints, 3)),
            batched_scales=np.full((joints, 3), _NOTHING_M), batched_colors=_UNSURE, opacity=0.45,
            cast_shadow=False, receive_shadow=False,
        )  # fmt: skip

    def show(self, instant: int) -> None:
        """Puts the body where it was at an instant."""
        sequence = self._playback.sequence
        posed = self._playback.at(sequence.t_s[instant : instant + 1])
        there = bool(np.isfinite(posed.joints).all())
        self._mesh.visible = there
        if there:
            wxyz = Rotation.from_matrix(posed.world_rotations[0]).as_quat(scalar_first=True)
            for bone, rotation, place in zip(self._mesh.bones, wxyz, posed.joints[0], strict=True):
                bone.wxyz, bone.position = rotation, place
        self._mesh.color = _SURE if sequence.reasons[instant] == Reason.OK else _WRONG
        wxyz, places, radii = ellipsoids(sequence.joints_m[instant], sequence.joint_covariance[instant])
        self._clouds.batched_wxyzs, self._clouds.batched_positions = wxyz, places
        self._clouds.batched_scales = radii


def ellipsoids(
    joints_m: Float[np.ndarray, "joints 3"], covariance: Float[np.ndarray, "joints 3 3"]
) -> tuple[Float[np.ndarray, "joints 4"], Float[np.ndarray, "joints 3"], Float[np.ndarray, "joints 3"]]:
    """Rotations (wxyz), centres and half axes of two standard deviations; almost nothing where they are not known."""
    known = np.isfinite(covariance).all(axis=(1, 2)) & np.isfinite(joints_m).all(axis=1)
    variance, axes = np.linalg.eigh(np.where(known[:, None, None], covariance, np.eye(3)))
    axes[np.linalg.det(axes) < 0, :, 0] *= -1
    radii = np.where(known[:, None], _SIGMAS * np.sqrt(np.maximum(variance, 0.0)), 0.0)
    centres = np.where(known[:, None], joints_m, 0.0)
    return Rotation.from_matrix(axes).as_quat(scalar_first=True), centres, np.maximum(radii, _NOTHING_M)


class Room:
    """All of a recording that is drawn in three dimensions.

    Args:
        scene: where it is drawn; what was in it is taken away.
        viewed: the recording.
        pick: called with the name of a camera that somebody clicks.
    """

    def __init__(self, scene: viser.SceneApi, viewed: Viewed, pick: Callable[[str], None]) -> None:
        scene.reset()
        self._viewed = viewed
        self._layers = {name: scene.add_frame(f"/{name}", show_axes=False) for name in LAYERS}
        self.centre = _middle(viewed)
        x, y, _ = self.centre
        scene.add_grid("/floor", 12, 12, cell_size=0.5, section_size=1.0, position=(x, y, 0.0))
        scene.add_frame("/world", axes_length=0.3, axes_radius=0.008)
        self._body = None if viewed.playback is None else Body(scene, viewed.playback)
        self.frusta: dict[str, viser.CameraFrustumHandle] = {}
        for camera in viewed.rig or ():
            self.frusta[camera.id] = _frustum(scene, f"/cameras/{camera.id}", camera, _ROOM, _SMALL)
            scene.add_label(f"/names/{camera.id}", camera.id, position=camera.centre)
        self._feet = {}
        for name, way in viewed.ways.items():
            nowhere = Camera(name, way.lens, _NOWHERE)
            self._feet[name] = _frustum(scene, f"/foot cameras/{name}", nowhere, _FOOT, 0.08)
            _draw_way(scene, f"/foot cameras/way of {name}", way)
        for name, handle in (*self.frusta.items(), *self._feet.items()):
            handle.on_click(partial(_picked, pick, name))
        for name, points in viewed.targets.items():
            if len(points):
                scene.add_point_cloud(f"/markers/{name}", points.astype(np.float32), _TARGET, point_size=0.015)
                scene.add_label(f"/names/{name}", name, position=points.mean(axis=0))
        self._rays = scene.add_line_segments(
            "/keypoint rays/all", np.zeros((1, 2, 3), np.float32), _RAY, thickness=1.0, thickness_units="screen"
        )  # fmt: skip

    def show(self, instant: int) -> None:
        """Puts everything where it was at an instant; rays are for `show_rays`."""
        if self._body is not None:
            self._body.show(instant)
        t_s = float(self._viewed.t_s[instant])
        for name, handle in self._feet.items():
            camera = self._viewed.ways[name].at(name, t_s)
            handle.visible = camera is not None
            if camera is not None:
                handle.wxyz, handle.position = _wxyz(camera), camera.centre

    def look_through(self, name: str | None, instant: int) -> None:
        """Puts a room camera's picture behind the person, so that from the camera the body lies over it.

        Args:
            name: of the camera; None for no camera, and all pictures are small again.
            instant: when.
        """
        for other, handle in self.frusta.items():
            depth_m = self._viewed.reach_m(other, instant) + _BEHIND_M if other == name else 0.0
            handle.scale = depth_m * _scale_of_depth(handle.fov, handle.aspect) if depth_m else _SMALL

    def show_layers(self, shown: Mapping[str, bool]) -> None:
        """Shows and hides layers by name."""
        for name, layer in self._layers.items():
            layer.visible = shown[name]

    def show_rays(self, instant: int, view_id: str | None) -> None:
        """Draws the rays of an instant, of all cameras if none is named."""
        rays = self._viewed.rays(instant, view_id)
        self._rays.visible = len(rays) > 0
        if len(rays):
            self._rays.points = rays.astype(np.float32)


def _picked(pick: Callable[[str], None], name: str, event: Any) -> None:
    pick(name)


def _scale_of_depth(fov: float, aspect: float) -> float:
    """viser's scale of a frustum for each metre at which its picture is to be: it scales by the frustum's volume."""
    half = np.tan(fov / 2)
    return float(np.cbrt(half * half * aspect / 3))


def field_of_view(camera: Camera) -> float:
    """Vertical field of view of the camera's picture without distortion, radians."""
    return float(2 * np.arctan(camera.lens.size_px[1] / 2 / camera.lens.K[1, 1]))


def _wxyz(camera: Camera) -> Float[np.ndarray, "4"]:
    return np.asarray(Rotation.from_matrix(camera.world_from_cam.R).as_quat(scalar_first=True))


def _frustum(
    scene: viser.SceneApi, path: str, camera: Camera, colour: tuple[int, int, int], scale: float
) -> viser.CameraFrustumHandle:
    width, height = camera.lens.size_px
    return scene.add_camera_frustum(
        path, min(field_of_view(camera), 2.4), width / height, scale=scale, thickness=1.5, thickness_units="screen",
        color=colour, wxyz=_wxyz(camera),
        position=camera.centre, cast_shadow=False, receive_shadow=False,
    )  # fmt: skip


def _draw_way(scene: viser.SceneApi, path: str, way: Way) -> None:
    """The way as short lines, orange where it was filled in; a few points a second are enough to see it."""
    step = max(round((len(way.t_s) - 1) / max(float(way.t_s[-1] - way.t_s[0]), 1e-9) / _WAY_HZ), 1)
    at = np.arange(0, len(way.t_s), step)
    places = way.world_from_cam.t[at]
    both = way.valid[at][:-1] & way.valid[at][1:]
    if not both.any():
        return
    lines = np.stack([places[:-1], places[1:]], axis=1)[both].astype(np.float32)
    filled = (way.filled[at][:-1] | way.filled[at][1:])[both]
    colours = np.where(filled[:, None, None], np.array(_UNSURE), np.array(_FOOT)).repeat(2, axis=1).astype(np.uint8)
    scene.add_line_segments(path, lines, colours, thickness=2.0, thickness_units="screen")


def _middle(viewed: Viewed) -> Float[np.ndarray, "3"]:
    """Where people look first: the middle of the person's places, or of the cameras."""
    if viewed.playback is not None:
        places = viewed.playback.sequence.joints_m[:: max(len(viewed.t_s) // 1000, 1), 0]
        places = places[np.isfinite(places).all(axis=1)]
        if len(places):
            return np.asarray((places.min(axis=0) + places.max(axis=0)) / 2)
    return viewed.rig.centres.mean(axis=0) if viewed.rig is not None else np.zeros(3)

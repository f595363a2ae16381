"""Runs one peer on a table of board corners, inside that peer's own environment: no import of this project.

`python boards_tool.py TOOL MODE INPUT OUTPUT`: INPUT holds `corners_px` (views, boards, 54, 2), `board_m`, `K`, `dist`
and `size_px`; OUTPUT gets `R` and `t` (camera from world) of every view, `fx` and `seconds`. Modes: `known` keeps the
given lenses, `free` finds them with the rig from nothing, `stepwise` finds them first, camera by camera.
"""

import sys
import time

import cv2
import numpy as np

COLUMNS, ROWS = 9, 6


def lenses_by_opencv(data):
    """Every camera by itself: cv2.calibrateCamera with its defaults."""
    board = data["board_m"].astype(np.float32)
    found = []
    for corners in data["corners_px"]:
        seen = [c.astype(np.float32) for c in corners if np.isfinite(c).all()]
        _, K, dist, _, _ = cv2.calibrateCamera([board] * len(seen), seen, tuple(map(int, data["size_px"])), None, None)
        found.append((K, dist.ravel()))
    return found


def given_lenses(data):
    return list(zip(data["K"], data["dist"], strict=True))


def caliscope(data, mode):
    import pandas as pd
    from caliscope.api import CameraArray, CameraData, Chessboard, ConstraintSet, ImagePoints, calibrate_extrinsics

    size = tuple(map(int, data["size_px"]))
    cameras = {k: CameraData(cam_id=k, size=size) for k in range(len(data["corners_px"]))}
    if mode != "free":
        for k, (K, dist) in enumerate(given_lenses(data) if mode == "known" else lenses_by_opencv(data)):
            cameras[k] = CameraData(cam_id=k, size=size, matrix=np.array(K), distortions=np.array(dist))
    view, board, point = np.nonzero(np.isfinite(data["corners_px"][..., 0]))
    xy, X = data["corners_px"][view, board, point], data["board_m"][point]
    table = pd.DataFrame({
        "sync_index": board, "cam_id": view, "object_id": 0, "keypoint_id": point,
        "img_loc_x": xy[:, 0], "img_loc_y": xy[:, 1],
        "obj_loc_x": X[:, 0], "obj_loc_y": X[:, 1], "obj_loc_z": X[:, 2],
    })  # fmt: skip
    spacing_cm = 100 * float(np.linalg.norm(data["board_m"][1] - data["board_m"][0]))
    constraints = ConstraintSet.from_chessboard(Chessboard(rows=ROWS, columns=COLUMNS, square_size_cm=spacing_cm))
    run = calibrate_extrinsics(ImagePoints(table), CameraArray(cameras), constraints, refine_intrinsics=mode != "known")
    solved = [run.capture_volume.camera_array.cameras[k] for k in range(len(cameras))]
    R = [c.rotation if np.shape(c.rotation) == (3, 3) else cv2.Rodrigues(c.rotation)[0] for c in solved]
    return np.stack(R), np.stack([np.ravel(c.translation) for c in solved]), [c.matrix[0, 0] for c in solved]


def anipose_row(number, corners):
    points = corners.reshape(-1, 1, 2)
    return {"framenum": (0, number), "corners": points, "filled": points, "ids": np.arange(len(points)).reshape(-1, 1)}


def aniposelib(data, mode):
    from aniposelib.boards import Checkerboard
    from aniposelib.cameras import CameraGroup

    board = Checkerboard(COLUMNS, ROWS, square_length=float(np.linalg.norm(data["board_m"][1] - data["board_m"][0])))
    names = [f"cam{k}" for k in range(len(data["corners_px"]))]
    group = CameraGroup.from_names(names)
    lenses = given_lenses(data) if mode != "stepwise" else lenses_by_opencv(data)
    for camera, (K, dist) in zip(group.cameras, lenses, strict=True):
        camera.set_size(tuple(map(int, data["size_px"])))
        if mode != "free":
            camera.set_camera_matrix(np.array(K))
            camera.set_distortions(np.array(dist))
    rows = [
        [anipose_row(b, c) for b, c in enumerate(corners) if np.isfinite(c).all()]
        for corners in data["corners_px"].astype(float)
    ]
    group.calibrate_rows(rows, board, init_intrinsics=mode == "free", only_extrinsics=mode == "known", verbose=False)
    R = np.stack([cv2.Rodrigues(c.get_rotation())[0] for c in group.cameras])
    return (
        R,
        np.stack([c.get_translation() for c in group.cameras]),
        [c.get_camera_matrix()[0, 0] for c in group.cameras],
    )


def opencv(data, mode):
    corners = data["corners_px"].astype(np.float32)
    mask = np.isfinite(corners).all(axis=(2, 3))
    views, boards = mask.shape
    board = data["board_m"].astype(np.float32)
    unseen = np.full((len(board), 2), -1, np.float32)
    pictures = [[corners[v, b] if mask[v, b] else unseen for b in range(boards)] for v in range(views)]
    sizes = [tuple(map(int, data["size_px"]))] * views
    fixed = [[board] * boards, pictures, sizes, mask.astype(np.uint8), np.zeros((views, 1), np.uint8)]
    if mode == "free":  # lists of start values, even unused ones, lead it astray (rms 1e27): nothing is given
        found = cv2.calibrateMultiview(*fixed, None, None, None, None)
    else:
        lenses = given_lenses(data) if mode == "known" else lenses_by_opencv(data)
        guess = np.full((views, 1), cv2.CALIB_USE_INTRINSIC_GUESS, np.int32)
        K, dist = [np.array(k) for k, _ in lenses], [np.reshape(d, (1, -1)) for _, d in lenses]
        found = cv2.calibrateMultiview(
            *fixed, K, dist, None, None, flags=cv2.CALIB_USE_INTRINSIC_GUESS, flagsForIntrinsics=guess
        )
    _, Ks, _, Rs, Ts = found[:5]
    R = [r if np.shape(r) == (3, 3) else cv2.Rodrigues(r)[0] for r in Rs]
    return np.stack(R), np.stack([np.ravel(t) for t in Ts]), [K[0, 0] for K in Ks]


def main():
    tool, mode, source, out = sys.argv[1:]
    data = dict(np.load(source))
    start = time.perf_counter()
    R, t, fx = {"caliscope": caliscope, "aniposelib": aniposelib, "opencv": opencv}[tool](data, mode)
    np.savez(out, R=R, t=t, fx=np.array(fx), seconds=time.perf_counter() - start)


if __name__ == "__main__":
    main()

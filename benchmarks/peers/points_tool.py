"""Runs one peer's triangulation on keypoints, inside that peer's own environment: no import of this project.

`python points_tool.py TOOL MODE INPUT OUTPUT`: INPUT holds `xy_px` (views, frames, joints, 2), NaN where missing,
`score`, and `K`, `dist`, `R`, `t`, `size_px` of the cameras (camera from world); OUTPUT gets `seconds` and `xyz_m`
(frames, joints, 3). Modes of aniposelib: `linear`, `ransac`, `optim`.
"""

import sys
import time

import cv2
import numpy as np


def aniposelib(data, mode):
    from aniposelib.cameras import Camera, CameraGroup

    cameras = [
        Camera(
            matrix=K, dist=dist, size=tuple(map(int, data["size_px"])), rvec=cv2.Rodrigues(R)[0], tvec=t, name=str(k)
        )
        for k, (K, dist, R, t) in enumerate(zip(data["K"], data["dist"], data["R"], data["t"], strict=True))
    ]
    group = CameraGroup(cameras)
    xy = data["xy_px"].astype(float)
    flat = xy.reshape(len(xy), -1, 2)
    start = time.perf_counter()
    if mode == "linear":
        points = group.triangulate(flat, undistort=True)
    elif mode == "ransac":
        points = group.triangulate_ransac(flat, undistort=True, min_cams=2)[0]
    else:
        points = group.triangulate_optim(xy, init_ransac=False, init_progress=False)
    return points.reshape(*xy.shape[1:3], 3), time.perf_counter() - start


def main():
    tool, mode, source, out = sys.argv[1:]
    points, seconds = {"aniposelib": aniposelib}[tool](dict(np.load(source)), mode)
    np.savez(out, xyz_m=points, seconds=seconds)


if __name__ == "__main__":
    main()

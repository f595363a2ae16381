#!/usr/bin/env bash
# From four real videos to a report: Pose2Sim's single-person demo (four cameras, 100 frames, BODY_25B joints by OpenPose).
#
#   examples/pose2sim_single.sh [DATA] [OUT]
#
# DATA  folder of the recording; default: data/pose2sim_single in $MOTIFS_SHARED, or in ../shared beside the project.
# OUT   folder to make; default: out/pose2sim_single. Run it again after an interruption: finished parts return at once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(dirname "$here")
data=${1:-${MOTIFS_SHARED:-$project/../shared}/data/pose2sim_single}
out=${2:-$project/out/pose2sim_single}
reference=$data/calibration/Calib_qualisys.toml
PATH=$project/.venv/bin:$PATH

# 1. Bring the recording into a session. The videos of cam01 and cam02 were scaled by 0.9926 and shifted down by 7.3 px
#    after calibration; their lens pictures and their joints live in the unscaled frame of 1088x1920.
if [ ! -e "$out/session/session.json" ]; then
    motifs ingest "$data" --out "$out/session" --id pose2sim_single --subject pose2sim \
        --layout pose2sim --keypoints-skeleton BODY_25B \
        --targets "$here/pose2sim_single_targets.json" \
        --picture-from-px cam01=0.9926,0,7.3 cam02=0.9926,0,7.3
fi

# 2. Annotate. The cameras were synchronised by hardware. Lenses come from the checkerboard pictures; the rig from
#    Qualisys (metric, z up), refined on the person's own joints, because it is off by a degree; then 3D points and SMPL.
#    Another body than the stand-in: --fit.body-model SMPL_NEUTRAL.pkl
motifs run "$out/session" --sync.method none \
    --rig.method keypoints --rig.reference "$reference" --rig.world-up z

# 3. Shards, a tiny A4Mer, and the Atoms and Motifs of the recording. In 1.7 s hardly anything happens twice: this shows
#    that every part works, not what A4Mer can do; give `motifs build` more sessions for that.
motifs build "$out/session" --out "$out/amd"
motifs train "$out/amd" --recipe debug_cpu --out "$out/run"
motifs discover "$out/run" "$out/amd" --out "$out/motifs"

# 4. One page with everything, overlays included.
motifs report "$out/session" --motifs "$out/motifs"
motifs status "$out/session"

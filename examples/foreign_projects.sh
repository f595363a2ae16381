#!/usr/bin/env bash
# Projects of other tools, from their folders to SMPL and on to Blender, OpenSim and AMASS.
#
#   examples/foreign_projects.sh [OUT] [TOOLS...]
#
# OUT    folder to make; default: out/projects. Run it again after an interruption: finished parts return at once.
# TOOLS  of pose2sim, easymocap, caliscope, freemocap; default: all of them.
#
# The projects here are small ones with a simulated person, written as each tool leaves them. With your own, begin at 2.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
project=$(dirname "$here")
out=${1:-$project/out/projects}
shift || true
tools=("${@:-pose2sim easymocap caliscope freemocap}")
PATH=$project/.venv/bin:$PATH
export PYTHONPATH=$project${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$out"

for tool in ${tools[*]}; do
    # 1. A project as the tool leaves it.
    if [ ! -e "$out/$tool" ]; then
        python -m simulation.projects "$out/$tool" "$tool"
    fi
    # 2. One command brings its videos, joints and cameras: motifs ingest tells which tool made a folder by what lies in it.
    if [ ! -e "$out/$tool-session/session.json" ]; then
        motifs ingest "$out/$tool" --out "$out/$tool-session" --subject "$tool"
    fi
done

# 3. All of them side by side, to SMPL: the tool's cameras are taken, and refined on the person.
sessions=()
for tool in ${tools[*]}; do sessions+=("$out/$tool-session"); done
motifs run "${sessions[@]}"

# 4. One dataset, and out again: skinned bodies for Blender, joints for OpenSim, SMPL for everything that reads AMASS.
if [ ! -e "$out/amd/meta/info.json" ]; then
    motifs build "${sessions[@]}" --out "$out/amd"
fi
for format in glb trc amass; do
    if [ ! -e "$out/$format" ]; then
        motifs export "$out/amd" --out "$out/$format" --format "$format"
    fi
done
motifs status "${sessions[@]}"

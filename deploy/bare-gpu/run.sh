#!/usr/bin/env bash
# Study, honest recipe and ladder on a machine with a GPU and nothing else, in slices of a few minutes: run it again until
# it says "All done". Each slice carries on where the last one was stopped.
#
#   deploy/bare-gpu/run.sh RAW OUT [SECONDS] [PRESET...]
#
# RAW      folder in the archive's layout (kaggle_3m)
# OUT      folder that stays between slices; result pages, a few MB, are left in OUT/results
# SECONDS  of one slice, 540 by default
# PRESET   study and honest by default; the ladder follows those that are by patient
#
# Environment:
# WHEELS   folder that pack.sh has filled, where the machine lacks packages
# SET      values other than the presets', as "train_classifier.initialization=none" where no weights can be fetched
# JOBS     trainings that share the GPU, 1 by default. Each takes a core of the CPU and, at 256 px, some 5 GB of the GPU; they
#          take turns there unless CUDA's MPS is on: nvidia-cuda-mps-control -d
set -euo pipefail
(($# >= 2)) || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")/../.." && pwd)
raw=$(realpath "$1") out=$(realpath -m "$2") seconds=${3:-540}
presets=("${@:4}")
[[ ${#presets[@]} -gt 0 ]] || presets=(study honest)
deadline=$((SECONDS + seconds))
mkdir -p "$out"
if [[ -n ${WHEELS:-} && ! -d $out/site ]]; then
  python3 -m pip install --quiet --no-index --no-deps --target "$out/site.new" "$WHEELS"/*.whl
  mv "$out/site.new" "$out/site"
fi
settings=() jobs=${JOBS:-1}
for value in ${SET:-}; do settings+=(--set "$value"); done
if ((jobs > 1)); then export OMP_NUM_THREADS=1 TUMOR_CASCADE_NUM_THREADS=1; fi
export PYTHONPATH="$here/src:$out/site" TUMOR_CASCADE_CHECKPOINTS="$out/checkpoints" CUBLAS_WORKSPACE_CONFIG=:4096:8
cascade() { timeout --signal=INT --kill-after=10 "$((deadline - SECONDS))" python3 -m tumor_cascade.cli "$@"; }

# Run a command of this slice; at the slice's end say how to go on, which is no failure.
step() {
  local code=0
  cascade "$@" || code=$?
  if ((code == 124 || SECONDS >= deadline)); then  # 137 before the deadline: killed for memory, which is a failure
    echo "The slice is over, in: $1 ($(pwd)). Run the same command again to carry on."
    exit 0
  fi
  ((code == 0)) || exit "$code"
}

for preset in "${presets[@]}"; do
  mkdir -p "$out/$preset/data"
  cd "$out/$preset"
  ln -sfn "$raw" data/raw
  cp "$here/dvc.yaml" .
  if [[ ! -e published ]]; then
    step configure "$preset" "${settings[@]}"
    step pipeline --without-dvc --skip validate_data --jobs "$jobs"
    step results publish "$preset" --out "$out/results"
    case $preset in
      study*) step results study "$preset" --out "$out/results" ;;
      *) step results gate "$preset" --out "$out/results" ;;
    esac
    touch published
  fi
  if [[ $preset != study* ]]; then
    step ladder run --further --jobs "$jobs"
    step ladder publish --out "$out/results"
  fi
done
echo "All done: $out/results"

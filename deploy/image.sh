#!/usr/bin/env bash
# Build the container image of this checkout: deploy/image.sh [cpu|gpu]. `make image` calls this. Settings, all optional:
#
#   IMAGE=NAME:TAG     its name (tumor-cascade:cpu or tumor-cascade:gpu)
#   BASE=IMAGE:TAG     what it is built on (python:3.11-slim-bookworm; for gpu also e.g. nvidia/cuda:13.0.2-base-ubuntu24.04)
#   PYTHON_VERSION     of that base (3.11)
#
# Packages are downloaded here, with the indexes, proxies and certificates that pip is configured with, and installed in
# the build from files: containers need no network. The base is pulled, or made where no registry answers (base-image.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:-cpu}
[[ $target =~ ^(cpu|gpu)$ ]] || { echo "image.sh: target is $target; must be cpu or gpu." >&2; exit 2; }
image=${IMAGE:-tumor-cascade:$target}
base=${BASE:-python:3.11-slim-bookworm}
python=${PYTHON_VERSION:-3.11}
wheels=build/wheels
docker info > /dev/null 2>&1 || { echo "image.sh: no Docker engine answers; start one: dockerd &" >&2; exit 1; }

download() { # ARGUMENTS of pip download
  local options=(--quiet --quiet --disable-pip-version-check --dest "$wheels.new" --only-binary :all: --python-version "$python")
  # pip goes on without this index where it is out of reach.
  [[ $target == gpu ]] || options+=(--extra-index-url https://download.pytorch.org/whl/cpu --retries 0 --timeout 15)
  python3 -m pip download "${options[@]}" "$@"
}

# Wheels are for this system: elsewhere the build asks the indexes itself.
made_from=$(cat requirements-runtime.lock requirements.lock <(echo "$target $python") | sha256sum)
if [[ $(uname -s) == Linux && $(cat "$wheels/made-from" 2> /dev/null) != "$made_from" ]]; then
  echo "Downloading packages to $wheels ..."
  # Debian's own Python has no pip without python3-pip, but puts one into a new environment.
  python3 -m pip --version > /dev/null 2>&1 || { python3 -m venv build/pip && PATH=$PWD/build/pip/bin:$PATH; }
  rm -rf "$wheels.new"
  download --constraint requirements-runtime.lock "$(grep ^torch== requirements-runtime.lock)"
  download --constraint requirements.lock hatchling
  download --no-deps --requirement requirements-runtime.lock
  echo "$made_from" > "$wheels.new/made-from"
  rm -rf "$wheels"
  mv "$wheels.new" "$wheels"
fi

if ! docker image inspect "$base" > /dev/null 2>&1 && ! timeout 300 docker pull --quiet "$base"; then
  [[ $base == python:3.11-slim-bookworm ]] || { echo "image.sh: $base is not here and cannot be pulled; see above." >&2; exit 1; }
  deploy/base-image.sh
fi

making=(src policies requirements.lock requirements-runtime.lock pyproject.toml dvc.yaml Dockerfile)
commit=$(git rev-parse HEAD)
dirty=$([[ -z $(git status --porcelain --untracked-files=all -- "${making[@]}") ]] && echo false || echo true)
[[ $dirty == false ]] || echo "Not as committed: $(git status --short -- "${making[@]}" | head -n 5); it cannot promote." >&2
docker build --quiet --target "$target" --tag "$image" \
  --build-arg "BASE=$base" --build-arg "COMMIT=$commit" --build-arg "DIRTY=$dirty" \
  --build-arg "LOCK_SHA256=$(sha256sum < requirements.lock | cut -d ' ' -f 1)" \
  $([[ $target == cpu ]] || echo --build-arg TORCH_INDEX=) . > /dev/null
echo "$image: commit ${commit:0:12}, $(docker image inspect --format '{{.Size}}' "$image" | numfmt --to=si)B."

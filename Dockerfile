# One recipe, two targets: cpu, and gpu, which differs in its torch and, if you like, its base:
#   --target gpu --build-arg BASE=nvidia/cuda:13.0.2-base-ubuntu24.04
# `make image` passes all arguments. Builds with and without BuildKit: no mounts, no here-documents.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
# CUDA bases come without Python.
RUN command -v python3 > /dev/null || (apt-get update && apt-get install --yes --no-install-recommends python3 \
  python3-venv && rm -rf /var/lib/apt/lists/*)

FROM base AS dependencies
RUN python3 -m venv /build && python3 -m venv --without-pip /opt/venv
# Wheels that lie in build/wheels are all that pip looks at; without them it asks its indexes.
COPY requirements-runtime.lock build/wheel[s] /inputs/
# Where builds of torch for the target are; empty for what PyPI has, which is CUDA's.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG PIP_INDEX_URL
# Removed is what never runs: tests, and what building against a library needs. Byte code stays: a task starts twice as fast.
RUN set -eu; cd /inputs; \
  if ls ./*.whl > /dev/null 2>&1; then set -- --no-index --find-links .; \
  elif [ -n "$TORCH_INDEX" ]; then set -- --extra-index-url "$TORCH_INDEX"; else set --; fi; \
  pip() { /build/bin/pip --python /opt/venv --quiet --disable-pip-version-check install --no-cache-dir --no-compile "$@"; }; \
  pip "$@" --constraint requirements-runtime.lock "$(grep ^torch== requirements-runtime.lock)"; \
  pip "$@" --no-deps --requirement requirements-runtime.lock; \
  cd /opt/venv/lib/python3*/site-packages; \
  rm -rf torch/test torch/include torch/share pyarrow/include; \
  find torch/bin -type f ! -name torch_shm_manager -delete; \
  find . -type d -name tests -prune -exec rm -rf {} +; \
  find . -type f \( -name '*.a' -o -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete; \
  /build/bin/python -m compileall -q -j 0 -x '/torch/testing/_internal/' --invalidation-mode unchecked-hash .

# The project alone: all that an edit of the code sends to a registry.
FROM dependencies AS project
WORKDIR /project
COPY pyproject.toml README.md LICENSE requirements.lock ./
COPY policies ./policies
COPY src ./src
RUN set -eu; if ls /inputs/*.whl > /dev/null 2>&1; then export PIP_NO_INDEX=1 PIP_FIND_LINKS=/inputs; fi; \
  pip() { /build/bin/pip --quiet --disable-pip-version-check "$@"; }; \
  pip wheel --no-deps --wheel-dir /dist .; \
  pip --python /opt/venv install --no-deps --no-index --no-compile --prefix /staged /dist/*.whl; \
  rm -f /staged/bin/tumor-cascade-pipeline; \
  /build/bin/python -m compileall -q --invalidation-mode unchecked-hash /staged

FROM base AS cpu
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=project /staged /opt/venv
WORKDIR /tmp
# The root file system may be read-only: all that is written goes to /tmp and to outputs that are mounted. Any user will
# do; the names are for libraries that ask for one.
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp LOGNAME=tumor-cascade USER=tumor-cascade PYTHONUNBUFFERED=1 \
  PYTHONDONTWRITEBYTECODE=1 TUMOR_CASCADE_CHECKPOINTS=/tmp/checkpoints TUMOR_CASCADE_RUNS=/tmp/runs \
  MLFLOW_DISABLE_TELEMETRY=true GX_ANALYTICS_ENABLED=false
USER 1000:1000
ENTRYPOINT ["tumor-cascade"]
ARG COMMIT
ARG DIRTY
ARG LOCK_SHA256
ENV TUMOR_CASCADE_COMMIT=$COMMIT TUMOR_CASCADE_DIRTY=$DIRTY
LABEL org.opencontainers.image.title="Tumor Cascade" \
  org.opencontainers.image.description="Brain MRI tumor cascade. Research use only." \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.revision=$COMMIT \
  tumor-cascade.dirty=$DIRTY \
  tumor-cascade.lock-sha256=$LOCK_SHA256

FROM cpu AS gpu
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

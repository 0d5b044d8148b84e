#!/usr/bin/env bash
# Make the Dockerfile's base image, python:3.11-slim-bookworm, from Debian packages: for networks that reach a Debian
# mirror and no image registry. The Dockerfile is built on it unmodified. Needs root, debootstrap and a Docker engine.
#
#   deploy/base-image.sh            nothing to do where the engine has the image
#   DEBIAN_MIRROR=URL DEBIAN_SECURITY_MIRROR=URL deploy/base-image.sh
set -euo pipefail

TAG=python:3.11-slim-bookworm
MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
SECURITY_MIRROR=${DEBIAN_SECURITY_MIRROR:-http://deb.debian.org/debian-security}

fail() { echo "base-image.sh: $1" >&2; exit 1; }

docker info > /dev/null 2>&1 || fail "no Docker engine answers; start one: systemctl start docker, or dockerd &"
if docker image inspect "$TAG" > /dev/null 2>&1; then echo "$TAG: the engine has it."; exit 0; fi
[[ $EUID == 0 ]] || fail "debootstrap needs root: sudo deploy/base-image.sh"
command -v debootstrap > /dev/null || fail "debootstrap is not installed: apt-get install debootstrap"

root=$(mktemp -d)
trap 'rm -rf --one-file-system "$root"' EXIT
log=$root.log
run() { "$@" >> "$log" 2>&1 || { tail -n 20 "$log" >&2; fail "$1 failed; all of it: $log"; }; }

# Documentation, translations and apt's caches are left out, as in Debian's own slim images.
mkdir -p "$root/etc/dpkg/dpkg.cfg.d" "$root/etc/apt/apt.conf.d"
printf 'path-exclude /usr/share/%s/*\n' doc man info locale lintian > "$root/etc/dpkg/dpkg.cfg.d/slim"
printf 'path-include /usr/share/doc/*/copyright\nforce-unsafe-io\n' >> "$root/etc/dpkg/dpkg.cfg.d/slim"
run debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv bookworm "$root" "$MIRROR"

printf 'deb %s %s main\n' "$MIRROR" bookworm "$MIRROR" bookworm-updates "$SECURITY_MIRROR" bookworm-security \
  > "$root/etc/apt/sources.list"
cp /etc/resolv.conf "$root/etc/resolv.conf"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
run chroot "$root" apt-get update
run chroot "$root" apt-get --yes upgrade
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/cache/debconf/*-old "$root"/var/log/* \
  "$root"/usr/share/doc/*/changelog* "$root"/usr/share/{man,info,locale,lintian}/* "$root/etc/resolv.conf"
find "$root/usr" -name __pycache__ -type d -prune -exec rm -rf {} +
ln -s /usr/bin/python3 "$root/usr/local/bin/python" # where the official image has it

tar --one-file-system --numeric-owner -C "$root" -c . \
  | docker import --change 'CMD ["python"]' --change 'ENV LANG=C.UTF-8' - "$TAG" > /dev/null
rm -f "$log"
echo "$TAG: made from $MIRROR, $(docker image inspect --format '{{.Size}}' "$TAG" | numfmt --to=si)B."

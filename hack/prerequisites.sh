#!/bin/bash
# Checks what everything else needs and installs what is a Debian package: a C compiler for the race detector and
# venv for the Python tests. What the cluster needs beyond that, hack/cluster gets itself.
set -euo pipefail

fail() { echo "$1" >&2; exit 1; }

[ "${CLUSTER:-local}" = existing ] || [ "$(id -u)" = 0 ] || fail "run as root: the local cluster makes namespaces and mounts"
command -v go >/dev/null || fail "go is missing: install Go 1.26 or later and put it on PATH"
command -v python3 >/dev/null || fail "python3 is missing: apt-get install python3"
go_minor=$(go env GOVERSION | sed -E 's/^go1\.([0-9]+).*/\1/')
[ "$go_minor" -ge 26 ] || fail "Go is $(go env GOVERSION), needed is 1.26 or later"
python3 -c 'import sys; sys.exit(sys.version_info < (3, 9))' || fail "python3 is $(python3 -V), needed is 3.9 or later"

missing=()
command -v gcc >/dev/null || missing+=(gcc libc6-dev)
command -v git >/dev/null || missing+=(git)
python3 -c 'import venv, ensurepip' 2>/dev/null || missing+=(python3-venv)
[ ${#missing[@]} = 0 ] && exit 0

command -v apt-get >/dev/null || fail "missing: ${missing[*]}: install them with this system's package manager"
echo "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null

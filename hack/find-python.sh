#!/bin/bash
# Prints the path of a Python of that version. What the machine has is taken first; else one that a Debian release ships
# is unpacked, once, into the cache folder with debootstrap, and its interpreter told to load that release's libraries:
# so it runs as any other, beside this system's own.
# usage: find-python.sh VERSION    for example: find-python.sh 3.14
set -euo pipefail

version=$1
for python in "/usr/bin/python$version" "/usr/local/bin/python$version" "$HOME/.pyenv/versions/$version".*/bin/python; do
  if [ -x "$python" ] && "$python" -c 'import venv, ctypes' 2>/dev/null; then echo "$python"; exit; fi
done

case $version in
  3.9) suite=bullseye ;;
  3.11) suite=bookworm ;;
  3.13) suite=trixie ;;
  3.14) suite=forky ;;
  *) echo "no Python $version here, and no Debian release has it: install it (pyenv install $version) and run this again" >&2; exit 1 ;;
esac

root=${XDG_CACHE_HOME:-$HOME/.cache}/workerpool-operator/pythons/$suite
python=$root/usr/bin/python$version
if [ -e "$root.ready" ]; then echo "$python"; exit; fi

fail() { echo "$1" >&2; [ ! -e "$root.log" ] || tail -n 10 "$root.log" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "no Python $version here: run as root, to unpack Debian $suite's, or install it (pyenv install $version)"
echo "unpacking Debian $suite for its Python $version, once (about a minute)" >&2
export DEBIAN_FRONTEND=noninteractive
rm -rf "$root" && mkdir -p "$root"
{ apt-get update && apt-get install -y --no-install-recommends debootstrap debian-archive-keyring patchelf; } >"$root.log" 2>&1 ||
  fail "debootstrap and patchelf can't be installed:"
mirror=$(apt-get indextargets --format '$(LABEL)|$(REPO_URI)' 'Created-By: Packages' | sed -n 's/^Debian|//p' | head -n 1)
[ -n "$mirror" ] || fail "apt knows no archive labelled Debian: add one to its sources"
script=/usr/share/debootstrap/scripts/$suite
[ -e "$script" ] || script=/usr/share/debootstrap/scripts/sid # a release that this debootstrap doesn't know yet
# In namespaces of its own: it mounts /proc and /sys in the new root.
unshare --mount --pid --fork --kill-child /usr/sbin/debootstrap --variant=minbase --include=python3,python3-venv \
  "$suite" "$root" "$mirror" "$script" >"$root.log" 2>&1 || fail "debootstrap of $suite has failed:"
libraries=$(dirname "$(find "$root/usr/lib" "$root/lib/" -name 'ld-linux*.so.*' | head -n 1)")
patchelf --set-interpreter "$(ls "$libraries"/ld-linux*.so.*)" --force-rpath \
  --set-rpath "$libraries:$(echo "$root"/usr/lib/*-linux-gnu)" "$python"
"$python" -c 'import ctypes, ssl, sqlite3' || fail "the Python of $suite doesn't run:"
touch "$root.ready"
echo "$python"

#!/bin/bash
# Runs the Python tests with the venv's Python and with one other version, when the machine has one: the oldest that
# is supported, so that nothing newer than it creeps in.
# usage: python-tests.sh VENV OUT
set -euo pipefail
venv=$PWD/$1 out=$PWD/$2
cd "$(dirname "$0")/../python"
"$venv/bin/python" -m pytest -q --junitxml="$out/python.xml" tests

for other in 3.9 3.10 3.12 3.13 3.14; do
  python=$(ls -d "/usr/bin/python$other" "$HOME"/.pyenv/versions/"$other".*/bin/python 2>/dev/null | head -n 1) || true
  [ -n "$python" ] && [ "$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')" != "$other" ] || continue
  env=$out/venv-$other
  [ -e "$env/ready" ] || { "$python" -m venv "$env" && "$env/bin/pip" install -q --disable-pip-version-check -r <(grep -vE "^(mypy|ruff|librt|pathspec)" requirements-dev.txt) && touch "$env/ready"; }
  echo "again with $("$env/bin/python" -V)"
  "$env/bin/python" -m pytest -q --junitxml="$out/python-$other.xml" tests
  break
done

#!/bin/bash
# Runs the Python tests with the venv's Python and with one other version, when the machine has one: the oldest that
# is supported, so that nothing newer than it creeps in. With "all": with every supported version.
# usage: python-tests.sh VENV OUT [all]
set -euo pipefail
venv=$PWD/$1 out=$PWD/$2 all=${3:-}
find_python=$PWD/hack/find-python.sh
cd "$(dirname "$0")/../python"
own=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
failed=()

# tests VERSION PYTHON runs them in a venv of their own; what checks only source isn't installed in it.
tests() {
  env=$out/venv-$1
  [ -e "$env/ready" ] || {
    rm -rf "$env" && "$2" -m venv --without-pip "$env" &&
      grep -vE "^(mypy|ruff|librt|pathspec)" requirements-dev.txt >"$env/requirements.txt" &&
      PYTHONWARNINGS=ignore "$venv/bin/python" -m pip --python "$env" install -q --disable-pip-version-check -r "$env/requirements.txt" &&
      touch "$env/ready"
  } || return
  echo "again with $("$env/bin/python" -V)"
  "$env/bin/python" -m pytest -q --junitxml="$out/python-$1.xml" tests
}

"$venv/bin/python" -m pytest -q --junitxml="$out/python.xml" tests || failed+=("$own")
for other in 3.9 3.10 3.11 3.12 3.13 3.14; do
  [ "$other" != "$own" ] || continue
  if [ -n "$all" ]; then
    { python=$("$find_python" "$other") && tests "$other" "$python"; } || failed+=("$other")
  elif python=$(ls -d "/usr/bin/python$other" "$HOME"/.pyenv/versions/"$other".*/bin/python 2>/dev/null | head -n 1) && [ -n "$python" ]; then
    tests "$other" "$python" || failed+=("$other")
    break
  fi
done
[ ${#failed[@]} = 0 ] || { echo "not passed with Python: ${failed[*]}"; exit 1; }

#!/bin/bash
# Fuzzes the decoders between slot and worker for so long each: Go's with `go test -fuzz`, Python's with mutations of
# the shared vectors.
# An input that fails is kept where the message says; commit it as a seed once it is understood.
# usage: fuzz.sh DURATION PYTHON    for example: fuzz.sh 60s out/venv/bin/python
set -euo pipefail

duration=$1 python=$PWD/$2
while IFS=: read -r file name; do
  echo "fuzzing $name of $(dirname "$file") for $duration"
  go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "$duration"
done < <(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' internal/frame internal/pool | sed 's/func //' | sort)
echo "fuzzing python/poolworker/frames.py for $duration"
cd python && FUZZ_SECONDS=${duration%s} "$python" -m pytest -q tests/fuzz_frames.py

#!/bin/bash
# Runs make targets one after the other, goes on after a failure, and ends with the time and outcome of each.
# usage: stages.sh TARGET...
set -uo pipefail

rows=() failed=0 start=$SECONDS
for target in "$@"; do
  printf '\n── %s\n' "$target"
  from=$SECONDS outcome=passed
  make --no-print-directory "$target" || { outcome=FAILED failed=$((failed + 1)); }
  took=$((SECONDS - from))
  rows+=("$(printf '  %-18s %3d min %02d s   %s' "$target" $((took / 60)) $((took % 60)) "$outcome")")
done
printf '\nstage                 time         outcome\n'
printf '%s\n' "${rows[@]}"
took=$((SECONDS - start))
printf '  %-18s %3d min %02d s\n' together $((took / 60)) $((took % 60))
[ "$failed" = 0 ]

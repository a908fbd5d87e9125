#!/bin/bash
# Runs the tests below a folder that stand in files with a build constraint, those alone, and shows what they print.
# usage: long-tests.sh "CONSTRAINT" FOLDER COMMAND...    COMMAND gets the arguments of `go test`
set -euo pipefail

constraint=$1 folder=$2
shift 2
mapfile -t files < <(grep -rlFx --include='*_test.go' "//go:build $constraint" "$folder")
[ ${#files[@]} -gt 0 ] || { echo "no test in $folder has the constraint $constraint"; exit 0; }
names=$(sed -nE 's/^func (Test[A-Za-z0-9_]+)\(t \*testing\.T\).*/\1/p' "${files[@]}" | paste -sd '|')
[ -n "$names" ] || { echo "the files with the constraint $constraint hold no test: ${files[*]}"; exit 1; }
mapfile -t packages < <(dirname "${files[@]}" | sort -u | sed 's|^|./|')
"$@" -tags "${constraint// && /,}" -run "^($names)\$" "${packages[@]}"

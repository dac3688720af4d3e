#!/usr/bin/env bash
# Prints, as questions for the program of this folder, what upstream's tests of the rules of custom resources compile and evaluate:
# a copy of their package gets a recorder, and its tests run.
#   record.sh MODULE    MODULE is the folder of a Go module that requires k8s.io/apiextensions-apiserver
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$1"
source=$(go list -mod=mod -m -f '{{.Dir}}' k8s.io/apiextensions-apiserver)/pkg/apiserver/schema/cel
rm -rf recorded
mkdir recorded
trap 'rm -rf recorded' EXIT
cp "$source"/*.go recorded
chmod -R u+w recorded
cp "$here/recorder.go.txt" recorded/recorder.go
python3 - recorded/validation.go recorded/compilation.go <<'PYTHON'
import sys
for path, before, hook in [
    (sys.argv[1], "activation, optionalOldSelfActivation := s.celActivationFactory(sts, obj, oldObj)\n", "record(sts, false, s.uncompiledRules, obj, oldObj)\n"),
    (sys.argv[2], "celRules := s.XValidations\n", "recordCompilation(s, declType)\n"),
]:
    with open(path) as file:
        text = file.read()
    assert text.count(before) == 1, path
    with open(path, "w") as file:
        file.write(text.replace(before, before + hook))
PYTHON
# what the tests say of themselves is no matter here
CEL_RECORD="$PWD/recorded/questions" go test -mod=mod -count=1 -run '^Test' ./recorded >recorded/log 2>&1 || true
sort -u recorded/questions

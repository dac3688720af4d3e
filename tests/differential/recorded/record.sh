#!/usr/bin/env bash
# Records what upstream's own tests ask of its validation and its strategies: record.sh DIR writes DIR/calls.jsonl, unless it is there.
# Upstream's module is copied into DIR/kubernetes, gets a recorder (instrument.go, recorder.go), and its tests run. Only calls are kept.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
conformance=$(cd "$here/../../conformance" && pwd)
version=$(sed -n 's/^\tk8s\.io\/kubernetes v//p' "$conformance/go.mod") staging=0.${version#1.}
state=$(echo "$version" | cat - "$here"/* | sha256sum)
[ -e "$out/calls.jsonl" ] && [ "$(cat "$out/state" 2>/dev/null)" = "$state" ] && exit
export GOFLAGS=-buildvcs=false GOWORK=off CGO_ENABLED=0
source=$(cd "$conformance" && go mod download "k8s.io/kubernetes@v$version" >&2 && go list -m -f '{{.Dir}}' k8s.io/kubernetes)
copy=$out/kubernetes
rm -rf "$copy" "$out/calls.jsonl" "$out/state" "$out/calls.part"
mkdir -p "$copy"
cp -r --no-preserve=mode "$source"/{go.mod,go.sum,pkg,plugin,third_party,test} "$copy"
cd "$copy"

# outside its repository the module takes its parts as they are published
go mod edit -json | sed -n 's/.*"Path": "\(k8s\.io\/[a-z-]*\)".*/\1/p' | sort -u | while read -r part; do
  if grep -q "$part => ./staging" go.mod; then go mod edit -dropreplace "$part" -require "$part@v$staging"; fi
done
cat "$conformance/go.sum" >>go.sum

mkdir -p pkg/recorder/install
cp "$here/recorder.go" pkg/recorder
{
  echo "package install"
  for one in pkg/apis/*/install; do echo "import _ \"k8s.io/kubernetes/$one\""; done
} >pkg/recorder/install/install.go
packages=$(go run "$here/instrument.go" pkg/apis/*/validation pkg/registry)
for one in $packages; do
  # a test knows only the kinds that something of it imports
  printf 'package %s_test\nimport _ "k8s.io/kubernetes/pkg/recorder/install"\n' "$(go list -mod=mod -f '{{.Name}}' "./$one")" >"$one/recorder_test.go"
done
# a test that fails has recorded what it asked before
RECORDINGS=$out/calls.part go test -mod=mod -count=1 $(printf './%s\n' $packages) >"$out/tests.log" 2>&1 || grep -E '^(FAIL|panic)' "$out/tests.log" >&2
mv "$out/calls.part" "$out/calls.jsonl"
rm -rf "$copy"
echo "$state" >"$out/state"

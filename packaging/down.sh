#!/bin/sh
# down.sh DATA: stops the server that up.sh started.
set -eu
pid=$1/skiff.pid
[ -f "$pid" ] || { echo "skiff does not run"; exit 0; }
kill "$(cat "$pid")" 2>/dev/null || true
i=0
while kill -0 "$(cat "$pid")" 2>/dev/null; do
  i=$((i + 1)); [ $i -lt 200 ] || { echo "pid $(cat "$pid") does not end" >&2; exit 1; }
  sleep 0.1
done
rm -f "$pid"

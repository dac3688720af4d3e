#!/bin/sh
# down.sh SKIFF DATA: stops the cluster that up.sh started: the server, its pods, and all it made on the machine. DATA stays.
set -eu
skiff=$1 pid=$2/skiff.pid
if [ -f "$pid" ]; then
  kill "$(cat "$pid")" 2>/dev/null || true
  i=0
  while kill -0 "$(cat "$pid")" 2>/dev/null; do
    i=$((i + 1)); [ $i -lt 200 ] || { echo "pid $(cat "$pid") does not end" >&2; exit 1; }
    sleep 0.1
  done
  rm -f "$pid"
fi
[ ! -x "$skiff" ] || "$skiff" killall --data-dir "$2"

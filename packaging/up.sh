#!/bin/sh
# up.sh SKIFF DATA: starts a server on DATA unless one runs, waits until it is ready.
set -eu
skiff=$1 data=$2 pid=$2/skiff.pid log=$2/skiff.log kubeconfig=$2/server/cred/admin.kubeconfig
if [ -f "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then
  echo "skiff runs already as pid $(cat "$pid")"; exit 0
fi
rm -f "$kubeconfig"
"$skiff" server --data-dir "$data" >"$log" 2>&1 &
echo $! >"$pid"
i=0
while [ ! -f "$kubeconfig" ]; do
  kill -0 "$(cat "$pid")" 2>/dev/null || { cat "$log" >&2; rm -f "$pid"; exit 1; }
  i=$((i + 1)); [ $i -lt 300 ] || { echo "no answer within 30 s; see $log" >&2; exit 1; }
  sleep 0.1
done
echo "The control plane is ready. Type:"
echo "  export KUBECONFIG=$kubeconfig"

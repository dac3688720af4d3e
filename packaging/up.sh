#!/bin/sh
# up.sh SKIFF DATA [EXAMPLE]: starts a cluster of one node on DATA unless one runs, waits until the node is Ready.
set -eu
skiff=$1 data=$2 pid=$2/skiff.pid log=$2/skiff.log kubeconfig=$2/server/cred/admin.kubeconfig
if [ -f "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then
  echo "skiff runs already as pid $(cat "$pid")"; exit 0
fi
mkdir -p "$data"
: >"$log"
"$skiff" server --data-dir "$data" ${SKIFF_FLAGS:-} >"$log" 2>&1 </dev/null &
echo $! >"$pid"
said=
i=0
until grep -q "the node is Ready" "$log"; do
  kill -0 "$(cat "$pid")" 2>/dev/null || { cat "$log" >&2; rm -f "$pid"; exit 1; }
  for step in "API server is ready" "the pod network is configured"; do
    case $said in *"$step"*) ;; *) grep -q "$step" "$log" && { echo "$step"; said="$said $step"; } ;; esac
  done
  i=$((i + 1)); [ $i -lt 600 ] || { echo "the node is not Ready after 60 s; see $log" >&2; exit 1; }
  sleep 0.1
done
echo "the node is Ready. Type:"
echo "  export KUBECONFIG=$kubeconfig"
echo "  kubectl get nodes,pods -A"

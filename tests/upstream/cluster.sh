#!/usr/bin/env bash
# Upstream's own cluster of one node, inside what `namespaces.sh up` made; flags are kubeadm's, processes are plain ones.
#   cluster.sh prepare PROGRAMS DIR api-server|control-plane|node|kubelet [IMAGE.tar...]   certificates, configurations, images
#   cluster.sh start   PROGRAMS DIR api-server|control-plane|node|kubelet                  starts it; DIR/admin.conf is its kubeconfig
#   cluster.sh prepare-join PROGRAMS DIR FIRST NUMBER [IMAGE.tar...]   the same for a further node, `nodeNUMBER`, of the cluster whose folder is FIRST
#   cluster.sh join         PROGRAMS DIR FIRST NUMBER                  starts it
# `api-server` is etcd and kube-apiserver alone, `control-plane` has the scheduler and the controllers too, `kubelet` a node where pods
# name it themselves: no scheduler, no Services, no DNS.
# FAMILIES=dual gives nodes, pods and Services an IPv6 address each, where `namespaces.sh` gave the nodes one.
# PROGRAMS is the folder that build.sh filled. Datastore, certificates, logs and containers are kept in DIR.
set -euo pipefail
tests=$(cd "$(dirname "$0")" && pwd)
step=$1 programs=$(cd "$2" && pwd) dir=$(cd "$3" && pwd) what=$4
shift 4
PATH=$programs:/usr/sbin:/usr/bin:/sbin:/bin
# the API server's, and the first node's
address=198.51.100.10
number=1
case $step in
  *join)
    first=$what what=node number=$1
    shift
    ;;
esac
node=node own=198.51.100.$((9 + number)) all_pods=10.244.0.0/16 services=10.96.0.0/16
[ "$number" = 1 ] || node=node$number
pods="[{\"subnet\": \"10.244.$((number - 1)).0/24\"}]" ways='{"dst": "0.0.0.0/0"}'
if [ "${FAMILIES:-}" = dual ]; then
  own=$own,2001:db8::$((9 + number)) all_pods=$all_pods,fd00:10:244::/56 services=$services,fd00:10:96::/112
  pods="$pods, [{\"subnet\": \"fd00:10:244:$((number - 1))::/64\"}]" ways="$ways, {\"dst\": \"::/0\"}"
fi
name=$(cat "$dir/name" 2>/dev/null || echo skiff-test)
cd "$dir"

has_node() { [ "$what" = node ] || [ "$what" = kubelet ]; }

certificates() {
  cat >kubeadm.yaml <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: $address, bindPort: 6443}
nodeRegistration: {name: node, criSocket: "unix:///run/containerd/containerd.sock"}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: $(kubeadm version --output short)
controlPlaneEndpoint: $address:6443
certificatesDir: $dir/pki
networking: {serviceSubnet: "$services", podSubnet: "$all_pods"}
apiServer: {certSANs: [127.0.0.1, localhost]}
END
  kubeadm init phase certs all --config kubeadm.yaml
  kubeadm init phase kubeconfig all --config kubeadm.yaml --kubeconfig-dir "$dir"
  # kubeadm binds the group of admin.conf when a cluster begins; super-admin.conf may always
  mv super-admin.conf admin.conf
  kubeadm kubeconfig user --client-name system:kube-proxy --config kubeadm.yaml >kube-proxy.conf
  kubeadm init phase addon coredns --config kubeadm.yaml --kubeconfig admin.conf --print-manifest >coredns.yaml
} >kubeadm.log 2>&1

configurations() {
  cat >kubelet.yaml <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
cgroupDriver: cgroupfs
cgroupRoot: /$name
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: $dir/resolv.conf
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $dir/pki/ca.crt}}
authorization: {mode: Webhook}
failSwapOn: false
volumePluginDir: $dir/volumeplugins
evictionHard: {memory.available: 100Mi, nodefs.available: 64Mi, imagefs.available: 64Mi}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
END
  # many pulls at once, and static pods
  [ "$what" != kubelet ] || printf '%s\n' "staticPodPath: $dir/manifests" "registryPullQPS: 0" "serializeImagePulls: false" >>kubelet.yaml
  mkdir -p manifests
  # a network namespace may not set the limits of connection tracking
  cat >kube-proxy.yaml <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clientConnection: {kubeconfig: $dir/kube-proxy.conf}
clusterCIDR: "$all_pods"
hostnameOverride: $node
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
END
  # root without CAP_SYS_RESOURCE may not lower oom_score_adj, and runc fails on it
  cat >containerd.toml <<END
version = 3
root = "$dir/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "registry.k8s.io/pause:3.10.2"
[plugins."io.containerd.cri.v1.images".registry]
config_path = "$dir/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["$programs/cni"]
conf_dir = "$dir/net.d"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "$programs/runc"
SystemdCgroup = false
# the conformance suite's RuntimeClasses name it
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.test-handler]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.test-handler.options]
BinaryName = "$programs/runc"
END
  mkdir -p net.d
  cat >net.d/10-bridge.conflist <<END
{"cniVersion": "1.0.0", "name": "pods", "plugins": [
 {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": ${POD_MASQUERADING:-true}, "ipMasqBackend": "nftables", "hairpinMode": true,
  "mtu": ${POD_MTU:-0},
  "ipam": {"type": "host-local", "ranges": [$pods], "routes": [$ways]}},
 {"type": "portmap", "capabilities": {"portMappings": true}, "backend": "nftables"}]}
END
}

images() {
  local archive containerd
  python3 "$tests/image.py" "$dir/pause.tar" registry.k8s.io/pause:3.10.2 "$programs/pause"
  [ "$what" = kubelet ] || python3 "$tests/image.py" "$dir/coredns.tar" "$(sed -n 's/^ *image: //p' coredns.yaml)" "$programs/coredns"
  containerd -c containerd.toml >log/import.log 2>&1 &
  containerd=$!
  until ctr version >/dev/null 2>&1; do sleep 0.05; done
  for archive in *.tar "$@"; do ctr -n k8s.io images import "$archive" >>log/import.log 2>&1; done
  kill $containerd
  wait $containerd || true
}

# daemon NAME ARGUMENT...: in the background, with a log of its own; DIR/pids lists them
daemon() {
  setsid "$@" </dev/null >>"log/$1.log" 2>&1 &
  echo $! >>pids
}

api_server() {
  local kubernetes=https://kubernetes.default.svc.cluster.local
  daemon etcd --data-dir "$dir/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 --initial-advertise-peer-urls http://127.0.0.1:2380 --initial-cluster default=http://127.0.0.1:2380
  daemon kube-apiserver --etcd-servers=http://127.0.0.1:2379 --secure-port=6443 --advertise-address=$address --allow-privileged=true \
    --client-ca-file=pki/ca.crt --tls-cert-file=pki/apiserver.crt --tls-private-key-file=pki/apiserver.key \
    --kubelet-client-certificate=pki/apiserver-kubelet-client.crt --kubelet-client-key=pki/apiserver-kubelet-client.key \
    --kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname \
    --service-account-key-file=pki/sa.pub --service-account-signing-key-file=pki/sa.key --service-account-issuer=$kubernetes \
    --service-cluster-ip-range=$services --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --enable-bootstrap-token-auth=true --requestheader-client-ca-file=pki/front-proxy-ca.crt \
    --proxy-client-cert-file=pki/front-proxy-client.crt --proxy-client-key-file=pki/front-proxy-client.key \
    --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User \
    --requestheader-group-headers=X-Remote-Group --requestheader-extra-headers-prefix=X-Remote-Extra- ${API_SERVER_FLAGS:-}
  if has_node; then daemon containerd -c containerd.toml; fi
  # what talks to the API server gives up or waits long when it is not there yet
  until curl -sf --cacert pki/ca.crt -o /dev/null https://127.0.0.1:6443/readyz; do sleep 0.02; done
}

control_plane() {
  [ "$what" = kubelet ] || daemon kube-scheduler --kubeconfig=scheduler.conf --authentication-kubeconfig=scheduler.conf \
    --authorization-kubeconfig=scheduler.conf --bind-address=127.0.0.1 --leader-elect=true
  daemon kube-controller-manager --kubeconfig=controller-manager.conf --authentication-kubeconfig=controller-manager.conf \
    --authorization-kubeconfig=controller-manager.conf --bind-address=127.0.0.1 --leader-elect=true \
    --use-service-account-credentials=true --service-account-private-key-file=pki/sa.key --root-ca-file=pki/ca.crt \
    --client-ca-file=pki/ca.crt --requestheader-client-ca-file=pki/front-proxy-ca.crt --cluster-signing-cert-file=pki/ca.crt \
    --cluster-signing-key-file=pki/ca.key --cluster-name=kubernetes --service-cluster-ip-range=$services \
    --cluster-cidr=$all_pods --allocate-node-cidrs=true --controllers='*,bootstrapsigner,tokencleaner' ${CONTROLLER_FLAGS:-}
}

daemons_of_node() {
  daemon kubelet --config=kubelet.yaml --kubeconfig=kubelet.conf --hostname-override=$node --node-ip=$own --root-dir="$dir/kubelet"
  [ "$what" = kubelet ] || daemon kube-proxy --config=kube-proxy.yaml
}

node() {
  daemons_of_node
  export KUBECONFIG=admin.conf
  # logs and exec; kubeadm's certificate of the API server as a client has no group
  kubectl create clusterrolebinding apiserver-kubelet-client --clusterrole=system:kubelet-api-admin --user=kube-apiserver-kubelet-client >/dev/null
  [ "$what" = kubelet ] || kubectl create -f coredns.yaml >/dev/null
}

mkdir -p log
case $step in
  prepare)
    certificates
    configurations
    if has_node; then images "$@"; fi
    ;;
  prepare-join)
    mkdir -p pki
    cp "$first/pki/ca.crt" pki/
    cp "$first/kube-proxy.conf" "$first/coredns.yaml" .
    kubeadm kubeconfig user --client-name "system:node:$node" --org system:nodes --config "$first/kubeadm.yaml" >kubelet.conf 2>kubeadm.log
    configurations
    images "$@"
    ;;
  join)
    daemon containerd -c containerd.toml
    daemons_of_node
    ;;
  start)
    api_server
    [ "$what" = api-server ] || control_plane
    if has_node; then node; fi
    ;;
  *) sed -n '2,7p' "$0" >&2; exit 2 ;;
esac

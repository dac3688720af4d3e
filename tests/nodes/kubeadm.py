"""Nodes that join as kubeadm has them join: what `kubeadm init` leaves in a cluster for them, and `kubeadm join` on their machine, whichever kubelet
is started there."""
import os, subprocess, time

import cluster

CONFIGURATION = """
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {{advertiseAddress: {address}, bindPort: 6443}}
nodeRegistration: {{name: node}}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {version}
controlPlaneEndpoint: {address}:6443
networking: {{serviceSubnet: {services}, podSubnet: {pods}}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
failCgroupV1: false
failSwapOn: false
cgroupDriver: cgroupfs
cgroupRoot: /{group}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
resolvConf: {folder}/resolv.conf
serverTLSBootstrap: true
evictionHard: {{memory.available: 100Mi, nodefs.available: 64Mi, imagefs.available: 64Mi}}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
"""


class Mixed(cluster.Cluster):
    """A cluster of one node, skiff's or upstream's, and a machine for a node of the other's."""

    def wired(self):
        # nothing is started there by the cluster
        self.machine = self.agents.pop("node2")


class Machine:
    """One that joins; it has an /etc of its own."""

    def __init__(self, machines, seen):
        self.machines, self.seen = machines, seen
        self.folder, self.address = machines.machine
        self.path = f"PATH={machines.programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        self.inside("sh", "-ec", """
            mkdir -p /run/etc/upper /run/etc/work
            mount -t overlay overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work /etc
            # kubeadm looks its own name up, and waits long for a resolver that cannot be reached
            echo "$1 node2" >>/etc/hosts
            cat resolv.conf >/etc/resolv.conf""", "sh", self.address)

    def write(self, name, text):
        with open(os.path.join(self.folder, name), "w") as f:
            f.write(text)

    def start(self, name, *arguments):
        """A daemon in the machine's namespaces and cgroups, whose log has this name."""
        with open(os.path.join(self.machines.log, f"{name}.log"), "w") as out:
            command = cluster.script("namespaces.sh", "in", self.folder, "env", self.path, *arguments)
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    def guest(self, *command):
        return cluster.script("namespaces.sh", "as-guest", self.folder, "env", self.path, *command)

    def inside(self, *command):
        self.machines.run(self.guest(*command))

    def succeeds(self, *command):
        return subprocess.run(self.guest(*command), capture_output=True).returncode == 0

    def wait_for(self, what, *command, seconds=60):
        """Runs a command inside until it succeeds."""
        deadline = time.monotonic() + seconds
        while not self.succeeds(*command):
            if time.monotonic() > deadline:
                raise cluster.Failed(f"{what}: not after {seconds} s")
            time.sleep(0.1)

    def join(self, socket, *kubelet):
        """Joins with this kubelet, which is started as kubeadm's unit for systemd does it."""
        command = init(self)
        with open(os.path.join(self.machines.log, "kubeadm-join.log"), "w") as out:
            joining = subprocess.Popen(self.guest(*command, "--cri-socket", socket, "--node-name", "node2", "--ignore-preflight-errors=all", "-v=5"),
                                       stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            self.wait_for("kubeadm has written what the kubelet needs", "test", "-s", "/var/lib/kubelet/kubeadm-flags.env")
            self.start("kubelet", "sh", "-ec", f"""
                . /var/lib/kubelet/kubeadm-flags.env
                exec {' '.join(kubelet)} --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf \
                  --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS --node-ip={self.address}""")
            if joining.wait(120):
                with open(os.path.join(self.machines.log, "kubeadm-join.log")) as f:
                    raise cluster.Failed(f"kubeadm join: {f.read()[-2000:]}")
        except subprocess.TimeoutExpired:
            raise cluster.Failed("kubeadm join: not after two minutes") from None
        finally:
            joining.kill()

    def approve_serving(self):
        """Nobody approves what a kubelet asks for its server by itself."""
        def asked():
            return [r["metadata"]["name"] for r in self.seen.get("csr")["items"] if r["spec"]["signerName"] == "kubernetes.io/kubelet-serving"]
        names = self.seen.until("the kubelet asks for a serving certificate", asked, 60)
        self.seen.kubectl("certificate", "approve", *names)
        self.seen.until("it is signed", lambda: self.seen.get("csr", names[0])["status"].get("certificate"), 30)


def init(machine):
    """The phases of `kubeadm init` for those who join. Returns the command by which one does."""
    seen, machines = machine.seen, machine.machines
    version = seen.ask("kubeadm", "version", "--output", "short").strip()
    machine.write("kubeadm.yaml", CONFIGURATION.format(
        address=cluster.ADDRESS, version=version, services=cluster.SERVICES, pods=cluster.PODS, folder=machine.folder, group=f"{machines.name}-node2"))
    # where its server is, those who join are told
    with open(machines.kubeconfig) as f:
        machine.write("admin.conf", f.read().replace("https://127.0.0.1:", f"https://{cluster.ADDRESS}:"))
    admin = ["--kubeconfig", os.path.join(machine.folder, "admin.conf")]
    config = ["--config", os.path.join(machine.folder, "kubeadm.yaml"), *admin]
    seen.ask("kubeadm", "init", "phase", "upload-config", "all", *config)
    seen.ask("kubeadm", "init", "phase", "bootstrap-token", *config)
    command = seen.ask("kubeadm", "token", "create", "--print-join-command", *admin)
    return command.split()


def addon(machine):
    """CoreDNS as kubeadm installs it."""
    return machine.seen.ask("kubeadm", "init", "phase", "addon", "coredns", "--config", os.path.join(machine.folder, "kubeadm.yaml"),
                            "--kubeconfig", machine.machines.kubeconfig, "--print-manifest")

#!/usr/bin/env bash
# Namespaces (network, mount, PID, UTS, IPC) and a cgroup of our own for a cluster, which leaves no trace in the machine's.
#   namespaces.sh up NAME DIR     makes them; DIR is the cluster's folder, below neither /run, /var/lib nor /var/log. An address and a host's
#                                 name may follow, where a cluster has more nodes, and an IPv6 address, where it has both families
#   namespaces.sh join DIR DIR..  makes one network of the nodes' links, until the first of them is down
#   namespaces.sh in DIR COMMAND  runs a command inside as a part of the cluster; `as-guest`: one not in its cgroup
#   namespaces.sh down DIR        ends every process inside and removes all that `up` made but DIR
# Inside: node address 198.51.100.10 (unless given) on a link whose other end is inside too; private /run, /var/lib and /var/log.
set -euo pipefail

# The roots of the cgroup hierarchies: one on version 2, one for each controller on version 1.
hierarchies() {
  if [ -e /sys/fs/cgroup/cgroup.controllers ]; then echo /sys/fs/cgroup; else
    local controller
    for controller in cpu cpuacct cpuset memory pids devices freezer blkio systemd unified; do
      [ ! -d "/sys/fs/cgroup/$controller" ] || echo "/sys/fs/cgroup/$controller"
    done
  fi
}

# kubelets set these for the whole kernel
kernel_settings="vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes"

enter() {
  local dir=$1
  shift
  exec nsenter --target "$(cat "$dir/init.pid")" --mount --net --pid --uts --ipc --wd="$dir" -- "$@"
}

first_process() {
  mount --make-rprivate /
  mount -t tmpfs -o mode=755 tmpfs /run
  # a sysfs of this network namespace, with the cgroups below it as before
  mkdir /run/cgroup
  mount --rbind /sys/fs/cgroup /run/cgroup
  mount -t sysfs sysfs /sys
  mount --move /run/cgroup /sys/fs/cgroup
  rmdir /run/cgroup
  mkdir -p /run/lock /run/netns
  mount -t tmpfs -o mode=755 tmpfs /var/lib
  mount -t tmpfs -o mode=755 tmpfs /var/log
  mount --make-rshared /
  hostname "$3"
  ip link set lo up
  ip link add node0 type veth peer name node0p
  ip link set node0p up
  ip link set node0 up
  ip addr add "$2/24" dev node0
  ip route add default via 198.51.100.1
  sysctl -qw net.ipv4.ip_forward=1
  if [ -n "$4" ]; then
    sysctl -qw net.ipv6.conf.all.forwarding=1
    ip addr add "$4/64" dev node0 nodad
    ip route add default via 2001:db8::1
  fi
  echo "nameserver 198.51.100.10" >"$1/resolv.conf"
  touch "$1/up"
  # reaps what is orphaned, until it is killed
  while :; do sleep infinity & wait $! || true; done
}

up() {
  local name=$1 address=${3:-198.51.100.10} host=${4:-node} address6=${5:-} dir root settings
  mkdir -p "$2"
  dir=$(cd "$2" && pwd)
  [ ! -e "$dir/init.pid" ] || { echo "$dir is in use" >&2; exit 1; }
  for settings in $kernel_settings; do echo "$settings=$(sysctl -n "$settings")"; done >"$dir/sysctls"
  echo "$name" >"$dir/name"
  rm -f "$dir/up"
  for root in $(hierarchies); do
    mkdir -p "$root/$name/system"
    # an empty set admits no process
    for settings in cpuset.cpus cpuset.mems; do
      [ ! -e "$root/$settings" ] || for group in "$root/$name" "$root/$name/system"; do cat "$root/$settings" >"$group/$settings"; done
    done
    [ "$root" != /sys/fs/cgroup ] || for controller in $(cat "$root/$name/cgroup.controllers"); do
      echo "+$controller" >"$root/$name/cgroup.subtree_control"
    done
  done
  setsid unshare --net --mount --pid --uts --ipc --fork --kill-child --mount-proc bash "$0" first-process "$dir" "$address" "$host" "$address6" </dev/null >"$dir/init.log" 2>&1 &
  local outer=$! i
  for ((i = 0; i < 500; i++)); do
    [ ! -e "$dir/up" ] || break
    kill -0 $outer 2>/dev/null || break
    sleep 0.02
  done
  [ -e "$dir/up" ] || { cat "$dir/init.log" >&2; down "$dir"; exit 1; }
  cut -d' ' -f1 "/proc/$outer/task/$outer/children" >"$dir/init.pid"
}

# The switch is a bridge in a network namespace of its own, which a process holds.
join() {
  local first=$1 switch dir port=0 i
  setsid unshare --net bash -c 'ip link add switch type bridge && ip link set switch up && touch "$1/switched" && exec sleep infinity' \
    switch "$first" </dev/null >"$first/switch.log" 2>&1 &
  switch=$!
  echo $switch >"$first/switch.pid"
  for ((i = 0; i < 500; i++)); do
    [ ! -e "$first/switched" ] || break
    kill -0 $switch 2>/dev/null || break
    sleep 0.02
  done
  [ -e "$first/switched" ] || { cat "$first/switch.log" >&2; exit 1; }
  for dir in "$@"; do
    nsenter --target "$(cat "$dir/init.pid")" --net -- ip link set node0p netns $switch name port$port
    nsenter --target $switch --net -- ip link set port$port master switch
    nsenter --target $switch --net -- ip link set port$port up
    port=$((port + 1))
  done
}

down() {
  local dir name root i switch
  dir=$(cd "$1" && pwd)
  if [ -e "$dir/switch.pid" ]; then
    switch=$(cat "$dir/switch.pid")
    case $(tr '\0' ' ' <"/proc/$switch/cmdline" 2>/dev/null) in "sleep infinity ") kill -9 "$switch" ;; esac
    rm -f "$dir/switch.pid" "$dir/switched"
  fi
  name=$(cat "$dir/name")
  if [ -e "$dir/init.pid" ]; then
    local init
    init=$(cat "$dir/init.pid")
    # with the first process of its PID namespace the kernel ends all others, and with the last go the mounts and links
    if [ -e "/proc/$init" ] && tr '\0' ' ' <"/proc/$init/cmdline" | grep -q "first-process $dir"; then
      kill -9 "$init"
      for ((i = 0; i < 500; i++)); do
        [ -e "/proc/$init" ] || break
        sleep 0.02
      done
    fi
    rm -f "$dir/init.pid" "$dir/up"
  fi
  while read -r setting; do sysctl -qw "$setting"; done <"$dir/sysctls"
  for root in $(hierarchies); do
    [ -d "$root/$name" ] || continue
    # a group that has just become empty may still be busy, on a machine that has much to do for long
    for ((i = 0; i < 600; i++)); do
      find "$root/$name" -depth -type d -exec rmdir {} + 2>/dev/null && break
      sleep 0.05
    done
    [ ! -d "$root/$name" ] || { echo "cgroup left: $root/$name" >&2; exit 1; }
  done
}

command=$1
shift
case $command in
  up) up "$@" ;;
  in)
    dir=$(cd "$1" && pwd)
    shift
    name=$(cat "$dir/name")
    for root in $(hierarchies); do echo $$ >"$root/$name/system/cgroup.procs"; done
    enter "$dir" "$@"
    ;;
  as-guest)
    dir=$(cd "$1" && pwd)
    shift
    enter "$dir" "$@"
    ;;
  join) join "$@" ;;
  first-process) first_process "$@" ;;
  down) down "$@" ;;
  *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac

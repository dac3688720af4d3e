#!/bin/sh
# end-skiff.sh SKIFF DATA: inside a node's namespaces, ends its server or agent or their parts, then its pods and all that they have on the machine.
# The server first: what it has made is removed only when it makes no more.
set -eu
for process in /proc/[0-9]*; do
  case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) in
    "$1 server "* | "$1 agent "* | "$1 kubelet "* | "$1 kube-proxy "* | "$1 container-runtime "*) kill "${process#/proc/}"; while [ -e "$process" ]; do sleep 0.05; done ;;
  esac
done
exec "$1" killall --data-dir "$2"

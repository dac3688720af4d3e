#!/bin/sh
# end-skiff.sh SKIFF DATA: inside a cluster's namespaces, ends its server, then its pods and all that they have on the machine.
# The server first: what it has made is removed only when it makes no more.
set -eu
for process in /proc/[0-9]*; do
  case $(tr '\0' ' ' <"$process/cmdline" 2>/dev/null) in
    "$1 server "*) kill "${process#/proc/}"; while [ -e "$process" ]; do sleep 0.05; done ;;
  esac
done
exec "$1" killall --data-dir "$2"

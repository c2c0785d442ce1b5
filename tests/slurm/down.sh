#!/usr/bin/env bash
# Ends what up.sh started in FOLDER, jobs first, and takes its links out of /etc/slurm. Packages stay.
#   down.sh FOLDER
set -uo pipefail
P=$(realpath -m "$1")
[ "$(readlink /etc/slurm/slurm.conf)" = "$P/etc/slurm.conf" ] || { echo "down.sh: no Slurm of $P is up" >&2; exit 0; }
stop() { # the daemon that a pid file names, if it still is that daemon
  local pid; pid=$(cat "$P/run/$1.pid" 2>/dev/null) || return 0
  [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || return 0
  kill "$pid"
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  echo "down.sh: $1 ($pid) did not end; killing it" >&2
  kill -9 "$pid"
}
timeout 10 scancel --user="$(id -un)"
for _ in $(seq 150); do [ -z "$(timeout 5 squeue -h -t R,CG,PD)" ] && break; sleep 0.1; done
for daemon in slurmd slurmctld munged; do stop $daemon; done
for file in slurm gres cgroup; do
  [ "$(readlink /etc/slurm/$file.conf)" != "$P/etc/$file.conf" ] || rm -f /etc/slurm/$file.conf
done
exit 0

#!/usr/bin/env bash
# A real Slurm on this one machine, for tests: controller, node and munge, without systemd, with pretend GPUs.
#   up.sh FOLDER [install]     all of it lies in FOLDER; `install` allows apt-get to get missing packages (root, Debian)
# Exit status 77: it cannot be had here, and the last line says why. tests/slurm/down.sh FOLDER ends it.
# SLURM_TEST_GPUS (1 to 4, default 2) and SLURM_TEST_CPUS (default 4; may be more than there are) say how large it is.
set -euo pipefail
P=$(realpath -m "$1") GPUS=${SLURM_TEST_GPUS:-2} CPUS=${SLURM_TEST_CPUS:-4}
NODE=$(hostname -s)
cannot() { echo "no Slurm here: $*"; exit 77; }
await() { # await SECONDS WHAT COMMAND...
  local until=$((SECONDS + $1)) what=$2; shift 2
  until timeout 10 "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $until ] || { tail -n 5 "$P"/log/*.log >&2; echo "up.sh: waited in vain for $what" >&2; exit 1; }
    sleep 0.1
  done
}

# --- packages ---
[ "$(id -u)" = 0 ] || cannot "its daemons need root"
old=$(readlink /etc/slurm/slurm.conf || true)
if grep -qs ClusterName=surefoot "$old"; then # a test that was killed leaves its links, and maybe its daemons
  ! scontrol ping >/dev/null 2>&1 || cannot "another test has one up (tests/slurm/down.sh ${old%/etc/slurm.conf} ends it)"
  rm -f /etc/slurm/{slurm,gres,cgroup}.conf
fi
for file in slurm gres cgroup; do
  [ ! -L /etc/slurm/$file.conf ] || [ -e /etc/slurm/$file.conf ] || rm /etc/slurm/$file.conf # its folder is gone
  [ ! -e /etc/slurm/$file.conf ] || cannot "/etc/slurm/$file.conf belongs to another Slurm, which is left alone"
done
if ! command -v slurmctld slurmd munged sbatch >/dev/null; then
  [ "${2:-}" = install ] || cannot "the packages slurmctld, slurmd, slurm-client, munge are missing (make test-slurm gets them)"
  command -v apt-get >/dev/null || cannot "there is no apt-get to install it with"
  # A policy that denies starts of services during the installation: the daemons are started below, by hand.
  made=0
  [ -e /usr/sbin/policy-rc.d ] || { printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; made=1; }
  mkdir -p "$P"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      -o DPkg::Lock::Timeout=300 slurmctld slurmd slurm-client munge; } >"$P/apt.log" 2>&1 && got=1 || got=0
  [ $made = 0 ] || rm -f /usr/sbin/policy-rc.d
  [ $got = 1 ] || cannot "apt-get could not install it ($(grep -m 1 '^E:' "$P/apt.log" || echo "see $P/apt.log"))"
fi

# --- files ---
mkdir -p "$P"/{etc,state,spool,log,run,munge}
chmod 755 "$P" "$P"/{etc,state,spool,log,run}
chmod 700 "$P/munge"
(umask 077; head -c 1024 /dev/urandom >"$P/munge/munge.key")
cat >"$P/etc/slurm.conf" <<CONF
ClusterName=surefoot
SlurmctldHost=$NODE(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$P/run/munge.socket
CredType=cred/munge
SlurmctldPort=16827
SlurmdPort=16828
StateSaveLocation=$P/state
SlurmdSpoolDir=$P/spool
SlurmctldPidFile=$P/run/slurmctld.pid
SlurmdPidFile=$P/run/slurmd.pid
SlurmctldLogFile=$P/log/slurmctld.log
SlurmdLogFile=$P/log/slurmd.log
# no control groups: nothing of the machine's own is touched
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
PropagateResourceLimits=NONE
# a job that can never fit is refused at once instead of waiting for ever
EnforcePartLimits=ALL
ReturnToService=2
# take the numbers below, whatever the machine has
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
JobAcctGatherType=jobacct_gather/none
KillWait=10
# without accounting, finished jobs are remembered here, and recorded in a file
MinJobAge=3600
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$P/log/jobs.txt
GresTypes=gpu
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=64000 Gres=gpu:pretend:$GPUS State=UNKNOWN
PartitionName=cpu Nodes=$NODE Default=YES MaxTime=1440 State=UP
PartitionName=gpu Nodes=$NODE Default=NO MaxTime=1440 State=UP
CONF
# Pretend GPUs: any distinct devices do, because nobody opens them.
devices=(/dev/null /dev/zero /dev/full /dev/random)
for ((i = 0; i < GPUS; i++)); do echo "NodeName=$NODE Name=gpu Type=pretend File=${devices[i]}"; done >"$P/etc/gres.conf"
echo "CgroupAutomount=no" >"$P/etc/cgroup.conf"
# At Slurm's own place, because the executor plugin drops SLURM_CONF from the environment of its steps.
mkdir -p /etc/slurm
for file in slurm gres cgroup; do ln -s "$P/etc/$file.conf" /etc/slurm/$file.conf; done

# --- daemons ---
munged --force --key-file="$P/munge/munge.key" --socket="$P/run/munge.socket" --pid-file="$P/run/munged.pid" \
  --log-file="$P/log/munged.log" --seed-file="$P/munge/munged.seed" 2>"$P/log/munged.err.log"
await 10 munge bash -c "munge -S '$P/run/munge.socket' -n | unmunge -S '$P/run/munge.socket'"
slurmctld -c
await 30 slurmctld scontrol ping
slurmd
await 30 "an idle node" bash -c "sinfo -h -o %t | grep -qx idle"
sinfo -h -o '%P %c CPUs, %m MB, %G'

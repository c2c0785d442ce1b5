#!/bin/sh
# submit.sh RULE THREADS MEM_MB MINUTES GPUS JOBSCRIPT: start a job, print its id.
# This one runs it here, in a session of its own, with a limit of time like a batch system's: TERM, then KILL.
set -eu
rule=$1 minutes=$4 script=$(realpath "$6")
mkdir -p results/logs/cluster
# The jobscript is read by the shell that writes down its end (exit status), so nothing of a job outlives that.
# TERM passes this shell by: it reaches Snakemake and the script, which save and end.
setsid timeout --kill-after=60 "${minutes}m" sh -c '
  trap "echo \$? >results/logs/cluster/$PPID.status" EXIT
  trap : TERM
  . "$1"' job "$script" >"results/logs/cluster/$rule-$(basename "$script").log" 2>&1 </dev/null &
echo $!

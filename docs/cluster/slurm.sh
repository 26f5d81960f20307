#!/bin/bash
# A search on Slurm: an array of tasks, each with one GPU, all on one PostgreSQL.
#
#   export TUNER_STORAGE=postgresql://me@dbhost/tuner      # the password: in ~/.pgpass
#   export TUNER_HOME=/shared/me/runs                      # a folder shared by all nodes
#   export TUNER_RUN="--space unet_k --data /shared/me/photos --trials 200"
#   sbatch docs/cluster/slurm.sh
#
# Submit more tasks at any time, or remove some with scancel: the budget belongs to the study, not to the tasks.
#SBATCH --job-name=tuner
#SBATCH --array=0-7
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=tuner-%A_%a.log
#SBATCH --signal=B:USR1@60
set -eu

: "${TUNER_STORAGE:?export it: postgresql://USER@HOST/NAME}"
: "${TUNER_HOME:?export it: a folder shared by all nodes}"
: "${TUNER_RUN:?export it: the arguments of tuner run}"

# Slurm sends USR1 a minute before the time limit (the line above) and TERM when the job is cancelled or preempted.
# On both, tuner saves within a step, puts its trial back and exits. At the time limit, the task requeues itself.
# A preempted task is requeued by Slurm (--requeue); a cancelled one is not.
out_of_time=
# called by the traps
# shellcheck disable=SC2329
stop() { kill -TERM "$tuner" 2>/dev/null || true; }
trap stop TERM
trap 'out_of_time=yes; stop' USR1

# The variable holds several words, so it is not quoted.
# shellcheck disable=SC2086
tuner run $TUNER_RUN --home "$TUNER_HOME" &
tuner=$!
code=0
wait "$tuner" || code=$?
while kill -0 "$tuner" 2>/dev/null; do # a signal ended the wait, not tuner
    code=0
    wait "$tuner" || code=$?
done

if [ "$out_of_time" ] && [ "$code" -eq 0 ]; then
    exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
exit "$code"

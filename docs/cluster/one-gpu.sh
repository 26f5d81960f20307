#!/bin/sh
# one-gpu COMMAND...: run a command on one GPU of this host that no other one-gpu process uses.
#
# Docker gives `count: 1` the same first GPU each time, so scaled workers would all use that one. Here each worker
# sees all GPUs and locks the one it uses until it exits. With more workers than GPUs, they are shared evenly.
# Without a GPU the command runs unchanged.
set -eu

locks=${TUNER_LOCKS:-/runs/gpus}
gpus=$(echo "${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=uuid --format=csv,noheader 2>/dev/null)}" | tr ',' ' ')
if [ -z "$(echo "$gpus" | tr -d '[:space:]')" ]; then
    exec "$@"
fi

mkdir -p "$locks"
round=1
while true; do
    for gpu in $gpus; do
        exec 9>"$locks/$gpu.$round" # the command inherits it, and with it the lock
        if flock --nonblock 9; then
            export CUDA_VISIBLE_DEVICES="$gpu"
            exec "$@"
        fi
    done
    round=$((round + 1))
done

#!/bin/sh
# one-gpu COMMAND...: run a command on one GPU of this host that nobody else took this way.
#
# Docker gives `count: 1` the same first GPU each time, so workers that are scaled up would all meet on it. Here each
# sees all GPUs and holds a lock on the one it takes, for as long as it lives. When there are more workers than GPUs,
# they share them in turn. Without a GPU the command runs as it is.
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

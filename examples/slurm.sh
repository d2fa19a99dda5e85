#!/bin/bash
# Eight shards of one dataset as a Slurm job array:  sbatch examples/slurm.sh
# A task that is requeued, preempted or submitted again goes on where it stopped.
#SBATCH --job-name=captions
#SBATCH --array=0-7
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@120
set -euo pipefail

SOURCE=${SOURCE:-"/data/shards/*.tar"}
OUT=${OUT:-"/scratch/$USER/captions"}
mkdir -p "$OUT"

# --rpm and --max-cost are those of the whole array: each task takes its share of them.
# exec: the signal two minutes before the end of the time reaches the run, which then lets its requests come home.
exec vision-batch run "$SOURCE" -o "$OUT/shard-$SLURM_ARRAY_TASK_ID" \
  --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" \
  -c openai --rpm 4800 --max-cost 400 --max-failed 1% --yes -q

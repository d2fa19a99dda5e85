#!/bin/bash
# Joins the shards when the array has ended:
#   sbatch --dependency=afterany:JOBID examples/slurm-merge.sh
#SBATCH --job-name=merge-captions
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --time=04:00:00
set -euo pipefail

OUT=${OUT:-"/scratch/$USER/captions"}

vision-batch merge "$OUT"/shard-* -o "$OUT/all"

#!/bin/bash
# One search over the nodes of a Slurm job. Submitted again, it resumes the search:
#
#   sbatch deploy/slurm.sh
#
# The folder it is submitted from, with its .venv (make install), and STORAGE must be seen by all nodes.

#SBATCH --job-name=birds
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --exclusive  # `ray symmetric-run` ends by stopping every Ray of this user on the node

set -euo pipefail

NAME=${NAME:-birds}
STORAGE=${STORAGE:-$PWD/results}
SEARCH=(--dataset cifar10 --noise 0.4 --network resnet32 --epochs 100 --trials 50)
if [[ $# -gt 0 ]]; then SEARCH=("$@"); fi  # sbatch deploy/slurm.sh --config birds.yaml

export PATH="$PWD/.venv/bin:$PATH"
export RAY_AUTH_MODE=token
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex(32))")
export RAY_AUTH_TOKEN
export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"  # the default is one core a step
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300  # seconds until all nodes have joined; the default is 30

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
head_address=$(srun --nodes=1 --ntasks=1 --nodelist="$head" hostname --ip-address | awk '{print $1}')
address="$head_address:$((20000 + SLURM_JOB_ID % 10000))"

began=$(mktemp)  # symmetric-run ends with 0 even if Ray could not start, so the script notes that it started
trap 'rm -f "$began"' EXIT

# shellcheck disable=SC2016  # the inner shell expands these
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
    ray symmetric-run --address "$address" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}" -- \
    bash -c 'export RAY_ADDRESS=$1 NAME=$2 STORAGE=$3; echo yes > "$4"; shift 4
        tune-mentormix search --exist-ok --name "$NAME" --storage "$STORAGE" --time-budget 23h "$@"
        ' \
    search "$address" "$NAME" "$STORAGE" "$began" "${SEARCH[@]}"

if [[ ! -s $began ]]; then echo "slurm.sh: Ray did not start on every node; its reason is above" >&2; exit 1; fi
tune-mentormix status "$NAME" --storage "$STORAGE"

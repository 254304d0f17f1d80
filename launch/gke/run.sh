#!/usr/bin/env bash
# Start or restart a training on Google Kubernetes Engine, and stream the log of host 0.
#
#   launch/gke/run.sh --name msvd --image REGION-docker.pkg.dev/PROJECT/stg_jax/train \
#     --accelerator tpu-v5-lite-podslice --topology 4x4 --hosts 4 --chips 4 -- \
#     --config configs/msvd.py --workdir gs://BUCKET/runs/msvd --config.data.dir gs://BUCKET/msvd
#
# Arguments after -- go to launch/train.py. --chips is the number of chips of one host; --restarts
# [20] limits how often all pods are restarted. --dry-run prints the commands and the job set.
set -euo pipefail

source "$(dirname "$0")/../lib.sh"
valued_flags='name image accelerator topology hosts chips restarts' switches='dry-run'
required_flags='name image accelerator topology hosts chips'
name='' image='' accelerator='' topology='' hosts='' chips='' restarts=20 dry_run=''

# These values go into YAML as they are.
check_characters() {
  local flag
  for flag in $required_flags; do
    [[ "${!flag}" =~ ^[A-Za-z0-9._:/@-]+$ ]] || fail "--$flag ${!flag} has odd characters"
  done
}

# A JSON list, which is YAML too; single quotes would end at an apostrophe.
args_list() {
  local arg list=''
  for arg in "${train_args[@]}"; do
    arg=${arg//\\/\\\\}
    list+="${list:+, }\"${arg//\"/\\\"}\""
  done
  printf '[%s]' "$list"
}

manifest() {
  local text word
  text=$(<"$(dirname "$0")/jobset.yaml")
  for word in name image accelerator topology hosts chips restarts; do
    text=${text//"{$word}"/"${!word}"}
  done
  printf '%s\n' "${text//"{args}"/"$(args_list)"}"
}

main() {
  parse_flags "$@"
  check_characters
  run kubectl delete jobset "$name" --ignore-not-found
  if [[ -n "$dry_run" ]]; then
    run kubectl apply -f - && manifest
  else
    manifest | kubectl apply -f -
  fi
  run kubectl wait --for=condition=Ready --timeout=1h pod \
    --selector="jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0"
  run kubectl logs --follow \
    --selector="jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0"
}

main "$@"

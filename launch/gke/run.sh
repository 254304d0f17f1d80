#!/usr/bin/env bash
# Start or restart a training on Google Kubernetes Engine, and stream host 0's log.
#
#   launch/gke/run.sh --name msvd --image REGION-docker.pkg.dev/PROJECT/stg_jax/train \
#     --accelerator tpu-v5-lite-podslice --topology 4x4 --hosts 4 --chips 4 -- \
#     --config configs/msvd.py --workdir gs://BUCKET/runs/msvd --config.data.dir gs://BUCKET/msvd
#
# What follows -- goes to launch/train.py. --chips counts those of one host; --restarts [20] bounds
# how often all pods start again. --dry-run prints the commands and what they would apply.
set -euo pipefail

name='' image='' accelerator='' topology='' hosts='' chips='' restarts=20 dry_run=''

fail() {
  printf 'run.sh: %s\n' "$1" >&2
  exit 2
}

parse() {
  while (($#)); do
    case "$1" in
      --name | --image | --accelerator | --topology | --hosts | --chips | --restarts)
        (($# > 1)) || fail "$1 needs a value (see --help)"
        printf -v "${1#--}" '%s' "$2"
        shift
        ;;
      --dry-run) dry_run=1 ;;
      -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" && exit 0 ;;
      --) shift && break ;;
      *) fail "unknown flag $1: those of train.py follow -- (see --help)" ;;
    esac
    shift
  done
  train_args=("$@")
  local flag
  for flag in name image accelerator topology hosts chips; do
    [[ -n "${!flag}" ]] || fail "--$flag is missing (see --help)"
    [[ "${!flag}" =~ ^[A-Za-z0-9._:/@-]+$ ]] || fail "--$flag ${!flag} has odd characters"
  done
  ((${#train_args[@]})) || fail 'the flags of train.py are missing: write them after --'
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

run() {
  if [[ -n "$dry_run" ]]; then
    printf '%q ' "$@" && printf '\n'
  else
    "$@"
  fi
}

main() {
  parse "$@"
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

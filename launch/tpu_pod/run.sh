#!/usr/bin/env bash
# Train on a TPU VM slice: create or reuse the slice, install, run on all workers, restart.
#
#   launch/tpu_pod/run.sh --name my-slice --zone us-west4-a --type v5litepod-16 \
#     --repo https://example.org/stg_jax.git -- \
#     --config configs/msvd.py --workdir gs://BUCKET/runs/msvd --config.data.dir gs://BUCKET/msvd
#
# Arguments after -- go to launch/train.py. Data and run folder must outlive the slice: use gs:// or a
# shared disk. The run is restarted up to --attempts times after exit code 75 (saved and stopped) and
# after a worker or the slice is lost; exit code 2 (a user error) ends at once.
#
#   --name NAME       of the slice                      --zone ZONE     of the slice
#   --type TYPE       v5litepod-16, v4-32, v6e-64 ...   --version V     runtime of the TPU VM
#   --repo URL        repository to install             --ref REF       branch, tag or commit [main]
#   --project ID      [gcloud's own]                    --spot          cheaper, can be preempted
#   --attempts N      [20]                              --pause S       between them [30]
#   --dry-run         print the commands only
set -euo pipefail

source "$(dirname "$0")/../lib.sh"
valued_flags='name zone type repo project version ref attempts pause' switches='spot dry-run'
required_flags='name zone type repo'
name='' zone='' type='' repo='' project=''
version='tpu-ubuntu2204-base' ref='main' attempts=20 pause=30 spot='' dry_run=''

tpu() {
  local place=("--zone=$zone")
  [[ -z "$project" ]] || place+=("--project=$project")
  run gcloud compute tpus tpu-vm "$@" "${place[@]}"
}

on_workers() { # WORKERS COMMAND
  tpu ssh "$name" "--worker=$1" "--command=$2"
}

ensure_slice() {
  local state
  state=$(tpu describe "$name" '--format=value(state)' 2>/dev/null || true)
  [[ -z "$dry_run" ]] || printf '%s\n' "$state"
  case "$state" in
    READY) return ;;
    PREEMPTED | TERMINATED | FAILED) tpu delete "$name" --quiet ;;
  esac
  local options=("--accelerator-type=$type" "--version=$version")
  [[ -z "$spot" ]] || options+=(--spot)
  tpu create "$name" "${options[@]}"
}

install_everywhere() {
  local clone
  clone="test -d stg_jax || git clone $(quoted "$repo") stg_jax"
  on_workers all "$clone && cd stg_jax && git fetch origin $(quoted "$ref") \
&& git checkout --force FETCH_HEAD && python3 -m venv .venv \
&& .venv/bin/pip install --quiet -r requirements.txt -e '.[tpu]'"
}

# Every worker stores its log and exit code; only the log of worker 0 is streamed. A process that
# outlived the connection to its worker still holds the TPU, so it is asked to end first.
train() {
  local number='http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number'
  on_workers all "cd stg_jax && rm -f exit_code; exec 3>&1
old=\$(cat pid 2>/dev/null)
while test -n \"\$old\" && grep -qs launch/train.py /proc/\$old/cmdline; do kill \$old; sleep 5; done
test \"\$(curl -s -H 'Metadata-Flavor: Google' $number)\" = 0 || exec 3>/dev/null
{ .venv/bin/python launch/train.py --multihost $(quoted "${train_args[@]}") 2>&1 &
echo \$! > pid; wait \$!; echo \$? > exit_code; } | tee train.log >&3
exit \$(cat exit_code)"
}

# Prints nothing if worker 0 does not answer, which counts as lost.
exit_code() {
  on_workers 0 'cat stg_jax/exit_code' 2>/dev/null || true
}

main() {
  parse_flags "$@"
  local attempt code
  for ((attempt = 1; attempt <= attempts; attempt++)); do
    if ensure_slice && install_everywhere; then
      train || true
      code=$(exit_code)
      [[ -z "$dry_run" ]] || { printf '%s\n' "$code" && return; }
      case "$code" in
        0) printf 'run.sh: finished\n' >&2 && return ;;
        2) fail 'stopped: see the message above' ;;
      esac
    fi
    printf 'run.sh: attempt %s ended (exit code %s); again in %s s\n' \
      "$attempt" "${code:-unknown}" "$pause" >&2
    sleep "$pause"
  done
  fail "gave up after $attempts attempts"
}

main "$@"

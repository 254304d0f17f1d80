# Flags, errors and dry runs of tpu_pod/run.sh and gke/run.sh, which source this file.
#
# They set `valued_flags`, `switches` and `required_flags`, lists of names separated by blanks, and
# a variable with the default of each.

fail() {
  printf 'run.sh: %s\n' "$1" >&2
  exit 2
}

# The comment at the top of the script.
usage() {
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0"
}

# Sets a variable for each flag, and train_args to the arguments that follow --.
parse_flags() {
  local flag
  while (($#)); do
    flag=${1#--}
    case "$1" in
      -h | --help) usage && exit 0 ;;
      --) shift && break ;;
    esac
    if [[ "$1" == --* && " $switches " == *" $flag "* ]]; then
      printf -v "${flag//-/_}" 1
    elif [[ "$1" == --* && " $valued_flags " == *" $flag "* ]]; then
      (($# > 1)) || fail "$1 needs a value (see --help)"
      printf -v "$flag" '%s' "$2"
      shift
    else
      fail "unknown flag $1: those of train.py follow -- (see --help)"
    fi
    shift
  done
  train_args=("$@")
  for flag in $required_flags; do
    [[ -n "${!flag}" ]] || fail "--$flag is missing (see --help)"
  done
  ((${#train_args[@]})) || fail 'the flags of train.py are missing: write them after --'
}

quoted() {
  printf '%q ' "$@"
}

# In a dry run, prints the command and succeeds.
run() {
  if [[ -n "$dry_run" ]]; then
    quoted "$@" && printf '\n'
  else
    "$@"
  fi
}

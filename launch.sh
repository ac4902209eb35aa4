#!/usr/bin/env bash
# Everything from a fresh clone: sets up .venv by itself, then runs what is asked for.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
VENV=$ROOT/.venv
VENV_PYTHON=$VENV/bin/python
LOG=$VENV/setup.log
INSTALLING=$VENV/.installing # there while pip works: found at a start, it means pip was killed
METHODS="xmodal pskd"
COMMANDS="setup, demo, train, test, bench, local, slurm, tpu, k8s, help"
ACCELERATORS="cpu cuda tpu"
DEV=""         # "yes": setup brings what the tests need, and all extras
EXTRAS=""      # what setup brings on top, such as "hub export"
ACCELERATOR="" # what jax is to run on; unless setup is told, what .venv was made for before

usage() {
  cat <<'EOF'
usage: ./launch.sh COMMAND [ARGUMENTS]

  demo [xmodal|pskd] [--json] [--workdir W]
                                         train on the embedded data and find photos from sketches
                                         (xmodal: the very photo; pskd: photos of unseen classes)
  train METHOD NAME --data DIR --workdir W [--config.key=value ...]
                                         teacher, students and evaluation on a real data set
                                         (xmodal: shoe_v2, chair_v2, sketchy, shoe304, demo;
                                         pskd: sketchy21, sketchy25, tuberlin, quickdraw,
                                         sketchy_mini, demo)
  test [pytest arguments]                style checks and the whole test suite
  bench [NAME ...] [--json FILE]         measure the speed, beside PyTorch (in .venv-bench, made for it)
  local N [--devices D] -- MAIN ARGS...  rehearse on this CPU what a cluster runs: N processes of one
                                         main, such as xmodal.train_teacher
  slurm ... -- MAIN ARGS...              the same on a SLURM cluster, the workers of a TPU pod, or
  tpu ... -- MAIN ARGS...                Kubernetes; each explains itself with --help, and shows
  k8s ... -- MAIN ARGS...                with --dry-run what it would hand over
  setup [--accelerator cpu|cuda|tpu] [--with hub|export|remote|search|milvus]... [--dev]
                                         only make .venv (cuda, tpu: with what jax needs there, kept
                                         from then on; hub: for places on the Hugging Face hub;
                                         export: for ONNX; search, milvus: to search your own
                                         photos; --dev: all of them, and what the tests need)
  help                                   this text

Every command sets up .venv first if it is missing, half-made, or older than the requirement files.
PYTHON=/path/to/python3.12 ./launch.sh ... chooses the interpreter (3.11 to 3.13) that .venv is made of.
EOF
}

say() { echo "launch: $*" >&2; }

die() {
  echo "error: $*" >&2
  exit 2
}

is_supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

# Succeeds if .venv holds a Python that runs, has pip, and was not left in the middle of an installation.
is_sound() {
  [ ! -e "$INSTALLING" ] && is_supported "$VENV_PYTHON" &&
    "$VENV_PYTHON" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("pip") is None)' 2>/dev/null
}

make_venv() {
  local candidate version tried=""
  for candidate in "${PYTHON:-python3.11}" python3.12 python3.13 python3 python; do
    version=$("$candidate" -c 'import platform; print(platform.python_version())' 2>/dev/null) || continue
    if ! is_supported "$candidate"; then
      tried="$tried $candidate is $version;"
      continue
    fi
    say "making ${VENV##*/} with Python $version"
    if "$candidate" -m venv --clear "$VENV" >/dev/null 2>&1 && is_sound; then
      return
    fi
    rm -rf "$VENV"
    tried="$tried $candidate ($version) cannot make a virtual environment (its venv package is missing);"
  done
  die "no usable Python 3.11 to 3.13 found:${tried:- none on the PATH;} install one, or set PYTHON=/path/to/it"
}

# fingerprint FILE...: changes when a requirement file or the Python of .venv does
fingerprint() {
  "$VENV_PYTHON" -V
  (cd "$ROOT" && cksum "$@")
}

# install STAMP "FILE..." [OPTION]...: brings .venv to what the requirement files say, once; takes
# nothing out of it. The options are pip's.
install() {
  local stamp=$VENV/$1 files=$2 file options=()
  shift 2
  for file in $files; do options+=(-r "$ROOT/$file"); done
  # shellcheck disable=SC2086
  if [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint $files)" ]; then
    return
  fi
  say "installing the packages of $files (the first time takes some minutes; log: $LOG)"
  touch "$INSTALLING"
  if ! "$VENV_PYTHON" -m pip install --no-input --disable-pip-version-check --progress-bar off \
    "${options[@]}" "$@" 2>&1 | tee "$LOG" | show_packages; then
    rm -f "$INSTALLING" # pip itself gave up, before it touched anything
    tail -n 5 "$LOG" >&2
    die "the packages could not be installed (see $LOG); check the network and run the same command again"
  fi
  rm -f "$INSTALLING"
  # shellcheck disable=SC2086
  fingerprint $files >"$stamp"
}

# install_extra NAME: brings what requirements-NAME.txt says on top, and moves none of our pins
install_extra() {
  local file=requirements-$1.txt
  case $1 in
    # jax2onnx declares orbax-checkpoint<0.11.37, which our pin is above though it runs with it: asked
    # for both, pip gives up. The file lists all that is needed, so nothing else has to be looked for.
    export) install ".stamp-$1" "$file" --no-deps ;;
    *) install ".stamp-$1" "$file" -c "$ROOT/requirements.txt" ;;
  esac
}

# Shows which package pip is at: on a terminal by rewriting one line, in a file by a line in twenty.
show_packages() {
  local line count=0
  while IFS= read -r line; do
    case $line in
      Collecting* | Processing* | Installing*)
        count=$((count + 1))
        if [ -t 2 ]; then
          printf '\r\033[K  %3d  %.70s' "$count" "$line" >&2
        elif [ $((count % 20)) = 0 ]; then
          printf '  %3d  %.70s\n' "$count" "$line" >&2
        fi
        ;;
    esac
  done
  if [ -t 2 ]; then printf '\r\033[K' >&2; fi
}

# Prints the names NAME of the files requirements-NAME.txt that can be set up on top.
extras() {
  local file name
  for file in "$ROOT"/requirements-*.txt; do
    name=${file##*/requirements-}
    name=${name%.txt}
    case $name in test | bench | cuda | tpu | "*") ;; *) printf '%s ' "$name" ;; esac
  done
}

# check_choice NAME CHOICES COMPLAINT: stops unless NAME is one of the CHOICES
check_choice() {
  case " $2 " in
    *" ${1:-/} "*) ;;
    *) die "$3 '$1'; choose one of: ${2% }" ;;
  esac
}

# parse_setup ARGUMENTS: sets DEV, EXTRAS and ACCELERATOR
parse_setup() {
  while [ $# != 0 ]; do
    case $1 in
      --dev) DEV=yes ;;
      --with)
        check_choice "${2:-}" "$(extras)" "setup --with does not know"
        EXTRAS="$EXTRAS $2"
        shift
        ;;
      --accelerator)
        check_choice "${2:-}" "$ACCELERATORS" "setup --accelerator does not know"
        ACCELERATOR=$2
        shift
        ;;
      *) die "setup knows only --accelerator NAME, --with NAME and --dev, not '$1'" ;;
    esac
    shift
  done
}

# Two of us at once on a fresh clone would tear down each other's half-made .venv.
setup() {
  (
    if command -v flock >/dev/null; then flock 9; fi
    setup_alone
  ) 9<"$ROOT"
}

# make_again WHY: makes .venv, and puts aside what is there
make_again() {
  if [ -e "$VENV" ]; then
    say ".venv $1: making it again"
    rm -rf "$VENV.broken"
    mv "$VENV" "$VENV.broken" # at once: half-deleted, it could pass for a sound one
  fi
  make_venv
  keep_accelerator
  rm -rf "$VENV.broken"
}

# Prints what .venv was made for; one put aside says so if making the new one was interrupted.
chosen_accelerator() {
  cat "$VENV/.accelerator" 2>/dev/null || cat "$VENV.broken/.accelerator" 2>/dev/null || echo cpu
}

# Before it is installed, so that what fails is tried again; writes nothing that is there already.
keep_accelerator() {
  [ "$(cat "$VENV/.accelerator" 2>/dev/null || echo cpu)" = "$ACCELERATOR" ] ||
    echo "$ACCELERATOR" >"$VENV/.accelerator"
}

setup_alone() {
  local name chosen
  chosen=$(chosen_accelerator)
  ACCELERATOR=${ACCELERATOR:-$chosen}
  if ! is_sound; then
    make_again "is broken or half-made"
  elif [ "$chosen" != "$ACCELERATOR" ] && [ "$chosen" != cpu ]; then
    make_again "is for $chosen" # pip would leave what jax then finds first
  fi
  keep_accelerator
  if [ -n "$DEV" ]; then
    install .stamp-dev "requirements.txt requirements-test.txt"
    fingerprint requirements.txt >"$VENV/.stamp"
    EXTRAS=$(extras)
  else
    install .stamp requirements.txt
  fi
  for name in ${ACCELERATOR#cpu} $EXTRAS; do install_extra "$name"; done
}

run_python() {
  PYTHONPATH=$ROOT${PYTHONPATH:+:$PYTHONPATH} exec "$VENV_PYTHON" "$@"
}

# PyTorch, in an environment of its own: what ours is compared with
setup_bench() {
  (
    VENV=$ROOT/.venv-bench
    VENV_PYTHON=$VENV/bin/python
    LOG=$VENV/setup.log
    INSTALLING=$VENV/.installing
    is_sound || make_venv
    install .stamp requirements-bench.txt
  )
}

run_tests() {
  local status=0
  cd "$ROOT"
  "$VENV_PYTHON" -m ruff check --quiet . || status=1
  "$VENV_PYTHON" -m ruff format --check --quiet . || {
    say "these files are not formatted: run .venv/bin/ruff format"
    status=1
  }
  "$VENV_PYTHON" -m pytest -n 2 --dist loadfile "$@" || status=$?
  exit "$status"
}

main() {
  local command=${1:-help} method=xmodal
  [ $# = 0 ] || shift
  case $command in
    help | -h | --help) usage ;;
    setup)
      parse_setup "$@"
      setup
      say "ready: $VENV_PYTHON"
      ;;
    demo)
      case ${1:-} in "" | -*) ;; *) method=$1 && shift ;; esac
      check_choice "$method" "$METHODS" "unknown method"
      setup
      run_python -m "$method.demo" "$@"
      ;;
    train)
      method=${1:-}
      [ -n "$method" ] || die "train what? ./launch.sh train METHOD NAME --data DIR --workdir W"
      check_choice "$method" "$METHODS" "unknown method"
      shift
      setup
      run_python -m "$method.pipeline" "$@"
      ;;
    test)
      DEV=yes
      setup
      run_tests "$@"
      ;;
    bench)
      EXTRAS=search
      setup
      setup_bench
      run_python -m benchmarks --compare torch "$@"
      ;;
    local | slurm | tpu | k8s)
      setup
      run_python -m sbir.cluster "$command" "$@"
      ;;
    *) die "unknown command '$command'; choose one of: $COMMANDS" ;;
  esac
}

main "$@"

#!/usr/bin/env bash
# Installs what the tests use beside cargo: a C compiler, Kafka's JVM, kcat, and a Python with a Kafka client, scipy and statsmodels.
#
#   tools.sh install          installs what is missing; one line at the end says what cannot be had
#   tools.sh python           prints the Python that has most of the packages, if there is one
#   tools.sh with CMD...      installs, runs CMD with SERINUS_PYTHON set, and says at the end what could not be had; the exit
#                             code is CMD's
#
# Debian's packages are installed where apt-get and root are at hand, the Python packages into target/python. Nothing here
# fails for want of a tool: each test that needs one says that it was skipped.
# A SERINUS_PYTHON that is set already is used as it is. stdout is data, stderr is talk.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
venv=${CARGO_TARGET_DIR:-$root/target}/python
wanting=()

say() { echo "tools.sh: $*" >&2; }
has() { command -v "$1" >/dev/null; }
imports() { "$1" -c "import $2" 2>/dev/null; }

# A command that the tests use, and the Debian packages that bring it. Maven fetches a broker only where there is no docker.
commands=(cc c++ make java kcat python3)
{ has docker && docker info >/dev/null 2>&1; } || commands+=(mvn)
package_of() {
  case $1 in
    cc) echo gcc libc6-dev ;;
    c++) echo g++ ;;
    java) echo default-jre-headless ;;
    mvn) echo maven ;;
    *) echo "$1" ;;
  esac
}

# One package that the mirror does not have must not cost the others.
apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  apt-get install -y -qq "$@" >/dev/null 2>&1 && return
  local package
  for package; do apt-get install -y -qq "$package" >/dev/null 2>&1 || true; done
}

install_debian() {
  local command missing=()
  for command in "${commands[@]}"; do
    # shellcheck disable=SC2207
    has "$command" || missing+=($(package_of "$command"))
  done
  # Debian's python3 makes no virtual environment without it.
  ! has python3 || imports python3 ensurepip || missing+=(python3-venv)
  has python3 || missing+=(python3-venv)
  ((${#missing[@]})) || return 0
  if has apt-get && [[ $(id -u) == 0 ]]; then
    say "installing ${missing[*]}"
    apt-get update -qq >/dev/null 2>&1 || true
    apt_install "${missing[@]}"
  fi
  for command in "${commands[@]}"; do has "$command" || wanting+=("$command"); done
}

# The Python worker of the examples runs with Confluent's client, the check of the statistics with scipy and statsmodels.
install_python() {
  local module package
  if [[ -z ${SERINUS_PYTHON:-} ]] && has python3 && ! imports "$venv/bin/python3" 'confluent_kafka, scipy, statsmodels'; then
    [[ -x $venv/bin/python3 ]] || python3 -m venv --clear "$venv" >/dev/null 2>&1 || true
    for module in confluent_kafka scipy statsmodels; do
      package=${module/_/-}
      [[ -x $venv/bin/python3 ]] || continue
      imports "$venv/bin/python3" "$module" || { say "installing $package for Python"; "$venv/bin/python3" -m pip install -q --disable-pip-version-check "$package" >/dev/null 2>&1 || true; }
    done
  fi
  for module in confluent_kafka scipy statsmodels; do
    imports "$(python)" "$module" || wanting+=("Python's $module")
  done
}

# The one that is named, else that of target, else the system's.
python() {
  if [[ -n ${SERINUS_PYTHON:-} ]]; then
    echo "$SERINUS_PYTHON"
  elif imports "$venv/bin/python3" confluent_kafka || imports "$venv/bin/python3" 'scipy, statsmodels'; then
    echo "$venv/bin/python3"
  else
    echo python3
  fi
}

report() {
  ((${#wanting[@]})) || return 0
  local list
  printf -v list '%s, ' "${wanting[@]}"
  say "not to be had here: ${list%, }; the tests that need them are skipped"
}

case ${1:-} in
  install) install_debian; install_python; report ;;
  python) python ;;
  with)
    shift
    install_debian
    install_python
    if has "$(python)"; then SERINUS_PYTHON=$(python); export SERINUS_PYTHON; fi
    code=0
    "$@" || code=$?
    report
    exit "$code"
    ;;
  *) sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

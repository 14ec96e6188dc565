#!/usr/bin/env bash
# Installs the tools of the tests other than cargo: a C compiler, Kafka's JVM, kcat, and a Python with a Kafka client, scipy and statsmodels.
#
#   tools.sh install          installs missing tools; the last line lists what could not be installed
#   tools.sh python           prints the Python that has most of the packages, if there is one
#   tools.sh with CMD...      installs, runs CMD with SERINUS_PYTHON set, and lists at the end what could not be installed;
#                             exits with CMD's exit code
#
# Installs Debian packages if apt-get and root are available, and Python packages into target/python. A missing tool is not
# an error: each test that needs one reports that it was skipped.
# An existing SERINUS_PYTHON is used unchanged. stdout is data, stderr is progress.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
venv=${CARGO_TARGET_DIR:-$root/target}/python
wanting=()

say() { echo "tools.sh: $*" >&2; }
has() { command -v "$1" >/dev/null; }
imports() { "$1" -c "import $2" 2>/dev/null; }

# A command that the tests use, and its Debian packages. Maven is needed to fetch a broker only if there is no docker.
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

# A package missing from the mirror must not prevent the others.
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
  # Debian's python3 needs it for virtual environments.
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

# Confluent's client is for the Python worker of the examples, scipy and statsmodels for the tests of the statistics.
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

# SERINUS_PYTHON, else the one in target, else the system's.
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
  say "could not be installed: ${list%, }; the tests that need them are skipped"
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

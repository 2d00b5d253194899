# Shared by scripts/demo and scripts/test: a virtual environment with the project in it.
# Usage: . scripts/setup.sh EXTRA      (EXTRA is "" or "test"; leaves $python behind)

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 1
}

find_python() {
  for candidate in "${PYTHON:-python3}" python3.12 python3.11 python3.13 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer was found (python3 is $(python3 --version 2>&1)); install one, or name it: PYTHON=/path/to/python $0"
}

set_up() {
  local extra=$1 stamp=.venv/.lazyrich-${1:-base} base needed_gb=8 free_gb
  python=.venv/bin/python
  if [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && "$python" -c 'import torchvision, timm' 2>/dev/null; then
    return
  fi
  base=$(find_python) || exit 1
  free_gb=$(df -Pk . | awk 'NR == 2 { print int($4 / 1048576) }')
  if ! "$python" -c 'import torch' 2>/dev/null && [ "$free_gb" -lt "$needed_gb" ]; then
    fail "only $free_gb GB are free here, the environment needs $needed_gb GB (PyTorch with its libraries): free some space"
  fi
  "$python" -m pip --version >/dev/null 2>&1 || "$base" -m venv --clear .venv ||
    fail "python -m venv failed; on Debian and Ubuntu: apt install python3-venv"
  printf 'installing lazyrich into .venv (some minutes the first time)\n'
  "$python" -m pip install --quiet --disable-pip-version-check --editable ".${extra:+[$extra]}" ||
    fail "pip could not install the project (its message is above); with the network and $needed_gb GB of disk at hand, run $0 again"
  touch "$stamp"
}

set_up "$1"

# Set-up shared by the scripts of this folder; sourced, not run. Needs: $root (the checkout).
# Makes a virtual environment once and keeps it as long as pyproject.toml is the same. Sets $venv.

say() { printf '%s\n' "$*" >&2; }
fail() { say "error: $*"; exit 1; }

as_root() { # run a command as root if that is possible without asking
  if [ "$(id -u)" = 0 ]; then "$@"; elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then sudo -n "$@"; else return 1; fi
}

apt_install() { # PACKAGE WHY
  say "installing $1 ($2)"
  as_root env DEBIAN_FRONTEND=noninteractive sh -c \
    "apt-get install -y -qq $1 || { apt-get update -qq && apt-get install -y -qq $1; }" >/dev/null 2>&1
}

find_python() {
  for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
    [ -n "$candidate" ] && command -v "$candidate" >/dev/null || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { python=$candidate; return; }
  done
  fail "Python 3.11 or newer is needed; run: sudo apt-get install -y python3 python3-venv"
}

make_venv() {
  find_python
  key=$("$python" - "$root" <<'PY'
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
print(hashlib.sha256((str(root) + sys.version).encode() + (root / "pyproject.toml").read_bytes()).hexdigest()[:16])
PY
)
  venv=$root/.venv
  # A checkout that belongs to somebody else, or that is read-only: the environment goes to the user's cache.
  if { [ -e "$venv" ] && [ ! -w "$venv" ]; } || [ ! -w "$root" ]; then
    venv=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/iroh-py/venv-$key
    mkdir -p "$(dirname "$venv")" 2>/dev/null || venv=${TMPDIR:-/tmp}/iroh-py-$(id -u)/venv-$key
    mkdir -p "$(dirname "$venv")" || fail "no place for a virtual environment: set XDG_CACHE_HOME to a folder you own"
  fi
  [ "$(cat "$venv/.iroh-py-ready" 2>/dev/null)" = "$key" ] && return
  (
    flock 9
    [ "$(cat "$venv/.iroh-py-ready" 2>/dev/null)" = "$key" ] && exit 0
    say "setting up $venv (once)"
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
      apt_install python3-venv "to make a virtual environment" ||
        fail "this Python cannot make virtual environments; run: sudo apt-get install -y python3-venv"
    fi
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv" || fail "cannot make a virtual environment in $venv"
    if [ -w "$root" ]; then source_arg="-e $root[dev]"; else source_arg="$root[dev]"; fi
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check $source_arg ||
      fail "pip could not install iroh-py and its dependencies (see above); is a package index reachable?"
    printf '%s' "$key" >"$venv/.iroh-py-ready"
  ) 9>"$venv.lock" || exit 1
}

need_program() { # PROGRAM PACKAGE WHY
  command -v "$1" >/dev/null || apt_install "$2" "$3" && command -v "$1" >/dev/null ||
    fail "the program $1 is missing and may not be installed by this user; run: sudo apt-get install -y $2"
}

need_nft() {
  PATH=$PATH:/usr/sbin:/sbin
  export PATH
  command -v nft >/dev/null && return
  apt_install nftables "routers with NAT are made of its rules" && command -v nft >/dev/null && return
  fail "the program nft is missing and may not be installed by this user; run: sudo apt-get install -y nftables"
}

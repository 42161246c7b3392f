# Sourced by `firmware/run` and `tests/run`: collects the Debian packages that are missing and
# installs them when this user may; otherwise says exactly which command would.

missing=''

# need PROGRAM PACKAGE: the program must be on the path.
need() {
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need_rust() {
  if ! command -v cargo >/dev/null 2>&1; then
    echo 'Rust is missing. Install it with rustup (https://rustup.rs), then start again.' >&2
    exit 1
  fi
}

need_node() {
  need node nodejs
  need npm npm
}

install_missing() {
  [ -n "$missing" ] || return 0
  if ! command -v apt-get >/dev/null 2>&1; then
    echo "These packages (Debian names) are missing:$missing" >&2
    exit 1
  fi
  if [ "$(id -u)" = 0 ]; then
    as_root=''
  elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root='sudo'
  else
    echo "Missing packages. Run: sudo apt-get install$missing" >&2
    exit 1
  fi
  echo "Installing:$missing"
  # A list that is a little old is still good enough when the network has a bad moment.
  $as_root apt-get update -qq || true
  # shellcheck disable=SC2086 # one word a package
  DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
  missing=''
}

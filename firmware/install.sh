# shellcheck shell=bash
# Sourced by `firmware/run` and `tests/run`: collects the Debian packages that are missing and
# installs them when this user may; otherwise says exactly which command would.

missing=''
# Debian keeps some of them where only root looks.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# need PROGRAM PACKAGE: the program must be on the path.
need() {
  command -v "$1" >/dev/null 2>&1 || missing="$missing $2"
}

need_rust() {
  if ! command -v cargo >/dev/null 2>&1; then
    echo 'Rust is missing. Install it with rustup (https://rustup.rs), then start again.' >&2
    exit 1
  fi
  rust=$(rustc --version | cut -d' ' -f2)
  needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  if [ "$(printf '%s\n' "$needed" "$rust" | sort -V | head -n 1)" != "$needed" ]; then
    echo "Rust $needed or later is needed, $rust is here. Install it with rustup (https://rustup.rs)." >&2
    exit 1
  fi
}

need_node() {
  need node nodejs
  need npm npm
}

# check_node: after the installation, because a distribution's own Node may be too old for the pages' build.
check_node() {
  node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' || {
    echo "Node 20.19 or later is needed, $(node --version) is here. See https://nodejs.org/en/download" >&2
    exit 1
  }
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
  # A fresh machine updates itself in its first minutes: wait for that rather than fail.
  # shellcheck disable=SC2086 # one word a package
  DEBIAN_FRONTEND=noninteractive $as_root apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >/dev/null
  missing=''
}

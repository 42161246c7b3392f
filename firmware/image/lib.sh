# Sourced by every script of the image: where things are, how to fail, how to work inside a root.
# Never run on its own; never touches anything outside of the work folder.
# shellcheck shell=bash

FIRMWARE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
SOURCE=$(cd -- "$FIRMWARE/.." && pwd)
IMAGE=$FIRMWARE/image
# Tools root, root trees, outputs: up to 12 GB. Another disk: PALABRE_FIRMWARE_WORK=/mnt/firmware.
WORK=${PALABRE_FIRMWARE_WORK:-$FIRMWARE/.work}
TOOLS=$WORK/tools
export FIRMWARE SOURCE IMAGE WORK TOOLS
umask 022
export LC_ALL=C.UTF-8 TZ=UTC

# say WORDS...: what happens now, with the seconds since the start.
say() { printf '[%4ds] %s\n' "$SECONDS" "$*" >&2; }

# die WORDS...: why it cannot go on, and what would help.
die() { printf 'firmware: %s\n' "$*" >&2; exit 1; }

# plain_path WHAT PATH: dies of what `inside` would take for something else in the words that it is given.
plain_path() {
  case $2 in *[[:space:]:*?[\\]*) die "$1 is at '$2': blanks, colons and the letters * ? [ \\ are not taken there. Give it another name, or another place" ;; esac
}
plain_path 'the clone' "$SOURCE"
plain_path 'the work folder (PALABRE_FIRMWARE_WORK)' "$WORK"

need_root() {
  [ "$(id -u)" = 0 ] || die "this needs root, for file systems and disks. Run: sudo $FIRMWARE/fw $*"
}

# age_in_days FILE: whole days since the moment that is in it, in seconds since 1970.
age_in_days() { echo $((($(date +%s) - $(cat "$1")) / 86400)); }

# Both names of each machine: Debian's, and those of Rust, the firmware files and QEMU.
machine() {
  case $1 in
    amd64) RUST_TARGET=x86_64-unknown-linux-gnu GNU=x86_64-linux-gnu EFI=x64 ;;
    arm64) RUST_TARGET=aarch64-unknown-linux-gnu GNU=aarch64-linux-gnu EFI=aa64 ;;
    *) die "--arch takes amd64 or arm64, not '$1'" ;;
  esac
  export RUST_TARGET GNU EFI
}

# list FILE...: the words of package lists, without comments.
list() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -- "$@" | tr -d ' \t'; }

# inside ROOT COMMAND...: runs the command in the root, in mount and process namespaces of its own, with /proc, /dev, an
# empty /tmp, and the folders named in BINDS ("from:to" words) mounted. Nothing of it is left when the command ends.
inside() {
  local root=$1
  shift
  # shellcheck disable=SC2016 # expanded inside
  BINDS="${BINDS:-}" unshare --mount --propagation private --pid --fork --kill-child -- bash -euc '
    root=$1; shift
    mount --bind "$root" "$root"
    cd "$root"
    mkdir -p proc dev tmp sys run
    mount -t proc proc proc
    mount --rbind /dev dev
    mount --rbind /sys sys
    mount -t tmpfs -o mode=1777 tmpfs tmp
    for bind in $BINDS; do
      from=${bind%%:*} to=$root${bind#*:}
      mkdir -p "$to"
      mount --rbind "$from" "$to"
    done
    exec chroot "$root" "$@"
  ' inside "$root" "$@"
}

# tool COMMAND...: a command of the tools root, with the work folder at /w and the sources at /src.
tool() {
  BINDS="$WORK:/w $SOURCE:/src ${BINDS:-}" inside "$TOOLS" \
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" \
    LC_ALL=C.UTF-8 TZ=UTC ${SOURCE_DATE_EPOCH:+SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH"} "$@"
}

# The host's own way to Debian: its mirror, its proxy, its judgement about dates. Nothing of it enters an image.
mirror() {
  local kind=$1 default=$2 found
  found=$(cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null |
    sed -e 's/#.*//' | tr -s '[:space:]' '\n' | grep -E "^https?://[^ ]*/$kind/?\$" | head -n 1) || true
  printf '%s\n' "${found:-$default}"
}

apt_options() {
  apt-config dump 2>/dev/null | grep -E '^Acquire::(http|https)::[Pp]roxy |^Acquire::(Check-Valid-Until|Check-Date|Retries) ' || true
}

# sources SUITES...: lines for apt.
sources() {
  local debian security suite
  debian=$(mirror debian http://deb.debian.org/debian)
  security=$(mirror debian-security http://deb.debian.org/debian-security)
  for suite in "$@"; do
    case $suite in
      *-security) printf 'deb %s %s main\n' "$security" "$suite" ;;
      *) printf 'deb %s %s main\n' "$debian" "$suite" ;;
    esac
  done
}

# crates TARGET: what is compiled into the programs of the box, a crate a line with its licence, as parts.py reads it.
crates() {
  (cd "$SOURCE" && cargo tree --locked --offline -p palabre -p palabre-appliance -p palabre-init -e normal --target "$1" \
    --prefix none --no-dedupe -f $'{p}\t{l}') | sort -u
}

# hash FILE...: of their contents, short.
hash() { cat -- "$@" | sha256sum | cut -c1-16; }

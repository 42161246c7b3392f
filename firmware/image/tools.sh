#!/bin/bash
# Makes the tools root: a Debian 13 tree with everything that builds, signs and emulates an image, and the Rust compiler
# for both machines. Made once, then kept until its package list changes. Needs root, mmdebstrap and a Debian mirror.
# Backports bring a new compiler to amd64 days before arm64 has its library: until then that is built from rust-src.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root tools

wanted=$(hash "$IMAGE/packages.tools" "${BASH_SOURCE[0]}")
if [ "$(cat "$TOOLS/.made-of" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
if ! command -v mmdebstrap >/dev/null; then
  command -v apt-get >/dev/null || die 'mmdebstrap is missing: install it, then start again'
  say 'installing mmdebstrap'
  apt-get update -qq || true
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mmdebstrap debian-archive-keyring >/dev/null
fi

say 'making the tools root (Debian 13; about 3 minutes, 2 GB)'
mkdir -p "$WORK"
rm -rf -- "$TOOLS.new"
plain=$(list "$IMAGE/packages.tools" | grep -v /trixie-backports | paste -sd, -)
newer=$(list "$IMAGE/packages.tools" | grep /trixie-backports | paste -sd' ' -)
options=()
while IFS= read -r line; do
  [ -n "$line" ] && options+=(--aptopt="$line")
done < <(apt_options)
sources trixie trixie-updates trixie-security trixie-backports >"$WORK/tools.list"
mmdebstrap --variant=apt --architectures=amd64,arm64 --include="$plain" "${options[@]}" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --customize-hook="chroot \"\$1\" sh -c 'install() { apt-get install -y -q --no-install-recommends \"\$@\"; }
    install $newer || install ${newer/libstd-rust-dev:arm64/rust-src}'" \
  trixie "$TOOLS.new" "$WORK/tools.list" >"$WORK/tools.log" 2>&1 ||
  die "the tools root could not be made; the end of $WORK/tools.log: $(tail -n 5 "$WORK/tools.log")"
# shellcheck disable=SC2016 # dpkg-query expands it
chroot "$TOOLS.new" dpkg-query -W -f '${Package}:${Architecture}=${Version}\n' >"$WORK/tools.packages"
printf '%s\n' "$wanted" >"$TOOLS.new/.made-of"
rm -rf -- "$TOOLS"
mv -- "$TOOLS.new" "$TOOLS"
say "tools root ready: $(chroot "$TOOLS" rustc --version), $(du -sh "$TOOLS" | cut -f1)"

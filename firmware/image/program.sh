#!/bin/bash
# Builds Palabre's programs for the machine of an image with the compiler of the tools root, without network, and
# checks that they need nothing but the C library. program.sh ARCH|bundle; the programs come to $WORK/program/ARCH, or, with
# `bundle`, the one that makes keys and update files here, to $WORK/program/bundle.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
arch=$1
machine "${arch/bundle/amd64}"
need_root image

# The pages are built once, here, with the host's Node; the tools root has none.
pages() {
  local web sources
  web=$SOURCE/admin/web
  sources=("$web"/{src,public,index.html,package.json,package-lock.json,vite.config.ts,tsconfig.json})
  if [ -e "$web/dist/index.html" ] && [ ! "$(newest "${sources[@]}")" \> "$(newest "$web/dist")" ]; then return; fi
  command -v npm >/dev/null || die 'npm is missing: install Node 20.19 or later'
  say 'building the pages'
  (cd "$web" && npm ci --no-audit --no-fund --silent && npm run build --silent) >"$WORK/web.log" 2>&1 ||
    die "the pages could not be built; see $WORK/web.log"
}
newest() { find "$@" -type f -printf '%T@\n' | sort -n | tail -n 1; }

command -v cargo >/dev/null || die 'cargo is missing: install Rust with rustup (https://rustup.rs)'
cargo fetch --locked --quiet --manifest-path "$SOURCE/Cargo.toml"

mkdir -p "$WORK/target" "$WORK/program/$arch"
plain_path 'the registry of cargo (CARGO_HOME)' "${CARGO_HOME:-$HOME/.cargo}"
export BINDS="${CARGO_HOME:-$HOME/.cargo}/registry:/cargo/registry"
# Some build scripts look at RUSTC_BOOTSTRAP: with it everything would be built anew, and again without.
[ -d "$TOOLS/usr/lib/rustlib/$RUST_TARGET/lib" ] && std='' || std=-std
# compile FOLDER FLAGS PACKAGE...: into a folder of its own when the flags differ, so that they do not undo each other's work.
compile() {
  local folder=$1 flags=$2 library=()
  shift 2
  if [ -n "$std" ]; then
    # Its own crates, named by its own lock file; a feature of cargo that only itself may use is in its manifest.
    RUSTC_BOOTSTRAP=1 cargo fetch --locked --quiet --manifest-path "$TOOLS/usr/lib/rustlib/src/rust/library/Cargo.toml"
    library=(-Z "build-std=std,panic_unwind,panic_abort")
  fi
  tool env ${library:+RUSTC_BOOTSTRAP=1} CARGO_HOME=/cargo CARGO_TARGET_DIR="/w/target/$folder$std" CARGO_NET_OFFLINE=true PALABRE_WEB=built RUSTFLAGS="$flags" \
    CARGO_BUILD_JOBS="${CARGO_BUILD_JOBS:-default}" \
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
    CXX_aarch64_unknown_linux_gnu=aarch64-linux-gnu-g++ AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
    cargo build "${library[@]}" --manifest-path /src/Cargo.toml --release --locked --offline --target "$RUST_TARGET" "$@"
}

# ship FOLDER PROGRAM: without debugging symbols; those stay beside it in the target folder.
ship() {
  local built=/w/target/$1$std/$RUST_TARGET/release/$2 needed
  tool "$GNU-strip" --strip-debug -o "/w/program/$arch/$2" "$built"
  needed=$(tool "$GNU-readelf" -d "$built" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
  if printf '%s\n' "$needed" | grep -vE '^(libc\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux-x86-64\.so\.2|ld-linux-aarch64\.so\.1|)$' >&2; then
    die "$2 needs the shared libraries above, which the image does not promise; link them statically"
  fi
  say "$2 $arch: $(stat -c %s "$WORK/program/$arch/$2") bytes, needs: $(printf '%s' "${needed:-nothing}" | tr '\n' ' ')"
}

say "building for $arch ($(tool rustc --version))"
if [ "$arch" = bundle ]; then
  compile dynamic '' -p palabre-appliance --bin palabre-bundle
  ship dynamic palabre-bundle
  exit 0
fi
pages
compile dynamic '' -p palabre -p palabre-appliance --bin palabre --bin palabre-update
ship dynamic palabre
ship dynamic palabre-update
compile static '-C target-feature=+crt-static -C relocation-model=static -C panic=abort' -p palabre-init
ship static palabre-init
# What the list of parts and the notices of an image need to know of these programs; the tools root has no registry.
[ -d "$SOURCE/admin/web/node_modules" ] || (cd "$SOURCE/admin/web" && npm ci --no-audit --no-fund --silent)
crates "$RUST_TARGET" >"$WORK/program/$arch/crates"
python3 "$IMAGE/licences.py" crates "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/ <"$WORK/program/$arch/crates" >"$WORK/program/$arch/crates.licences"
python3 "$IMAGE/licences.py" pages "$SOURCE/admin/web" >"$WORK/program/$arch/pages.licences"
tool rustc --version | cut -d' ' -f2 >"$WORK/program/$arch/std"

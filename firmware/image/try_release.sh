#!/bin/bash
# Puts `--release` to the test: nothing is assembled with keys that anybody can have, whatever they are called. try_release.sh,
# after tools and programs were made for amd64.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
# A version that no other test assembles.
version=999 made=$WORK/out/amd64-core-999
mkdir -p "$WORK/test"
place=$(mktemp -d -p "$WORK/test" release-XXXXXX)
trap 'rm -rf -- "$place"' EXIT

# refused WHY FOLDER: a release with these keys.
refused() {
  local said
  if said=$("$IMAGE/assemble.sh" --arch amd64 --version "$version" --release --only-bundle --keys "$2" 2>&1); then
    rm -rf -- "$made"
    die "a release was signed with $2"
  fi
  said=$(tail -n 1 <<<"$said")
  [[ $said == *"$1"* ]] || die "a release with $2 was refused for another reason: $said"
  [ ! -e "$made" ] || die "a release with $2 was refused and left $made"
  say "refused: $said"
}
refused 'is not signed with development keys' "$FIRMWARE/keys/dev"
cp -- "$FIRMWARE/keys/dev"/* "$place/"
rm -- "$place/DEVELOPMENT"
refused 'is a key for development, not release' "$place"
# Even when somebody writes another word into the public halves: the certificate says it too.
sed -i 's/ development$/ release/' "$place"/*.pub
refused 'is a certificate for development' "$place"
say 'a release is signed with no development key'

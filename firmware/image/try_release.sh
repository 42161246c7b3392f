#!/bin/bash
# Puts `--release` to the test: nothing is assembled of packages that are too old, or with keys that anybody can have, whatever they are
# called. try_release.sh, after tools and programs were made.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
mkdir -p "$WORK/test"
place=$(mktemp -d -p "$WORK/test" release-XXXXXX)
trap 'rm -rf -- "$place"' EXIT
# A work folder of its own, whose root has a day and nothing else: how old the one at hand is must not matter.
own=$place/work keys=$place/keys made=$place/work/out/amd64-core-1
mkdir -p "$own/root/amd64-core/boot" "$own/program" "$keys"
ln -s "$TOOLS" "$own/tools"
cp -a -- "$WORK/program/bundle" "$own/program/"
printf 'none\n' >"$own/root/amd64-core/boot/release"
# Within the day: the moment at which it is looked at must not matter either.
made_before() { echo $(($(date +%s) - $1 * 86400 - 3600)) >"$own/root/amd64-core/made-on"; }

# refused WHY FOLDER: a release with these keys.
refused() {
  local said
  if said=$(PALABRE_FIRMWARE_WORK=$own "$IMAGE/assemble.sh" --arch amd64 --release --only-bundle --keys "$2" 2>&1); then
    die "a release was signed with $2"
  fi
  said=$(tail -n 1 <<<"$said")
  [[ $said == *"$1"* ]] || die "a release with $2 was refused for another reason: $said"
  [ ! -e "$made" ] || die "a release with $2 was refused and left $made"
  say "refused: $said"
}
for days in 31 -2; do
  made_before "$days"
  refused 'at most 30 days are let into a release' "$FIRMWARE/keys/dev"
done
made_before 30
refused 'is not signed with development keys' "$FIRMWARE/keys/dev"
cp -- "$FIRMWARE/keys/dev"/* "$keys/"
rm -- "$keys/DEVELOPMENT"
refused 'is a key for development, not release' "$keys"
# Even when somebody writes another word into the public halves: the certificate says it too.
sed -i 's/ development$/ release/' "$keys"/*.pub
refused 'is a certificate for development' "$keys"
say 'a release is made of no old packages, and signed with no development key'

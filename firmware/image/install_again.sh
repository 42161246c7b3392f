#!/bin/bash
# Installs version 2 on a disk of its own that runs version 1, as a box does, as nice as a box is (without its weights). What a bench runs beside
# itself again and again: cargo bench -p palabre-benches --bench latency -- --busy 4 --beside "$PWD/firmware/image/install_again.sh"
# The images are those of `fw test`. Installing once and looking at what is on the disk then: install_again.sh --check
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
[ "$(id -u)" = 0 ] || die 'install_again.sh needs root'
case $* in '' | --check) ;; *) die "install_again.sh takes --check or nothing, not '$*'" ;; esac
one=$WORK/try/amd64-core-1 two=$WORK/try/amd64-core-2 box=$WORK/test/again
update=$two/palabre-amd64-core-2.plbu
for file in "$one/palabre-amd64-core-1.img.zst" "$one/work/cmdline" "$one/uki.efi" "$update" "$two/root" "$two/roothash" "$WORK/program/amd64/palabre-update"; do
  [ -e "$file" ] || die "there is no $file: run \`firmware/fw test --quick\` once"
done
# Of an image that was made anew since, a new box.
made=$(hash "$one/roothash" "$two/roothash" "$FIRMWARE"/keys/dev/*.pub)
if [ "$(cat "$box/made" 2>/dev/null)" != "$made" ]; then
  rm -rf -- "$box"
  mkdir -p "$box"/{keys,esp/EFI/Linux,efivars,state,run/palabre}
  # shellcheck disable=SC2016 # expanded inside
  tool sh -euc 'cd /w/test/again; zstd -q -d -o disk "$1"; truncate -s 2G disk; sfdisk --quiet --relocate gpt-bak-std disk
    printf "size=16MiB, type=2c7357ed-ebd2-46d9-aec1-23d437ec2bf5, name=_empty\nsize=640MiB, type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709, name=_empty\n" |
      sfdisk --quiet --append disk' disk "/w/try/amd64-core-1/palabre-amd64-core-1.img.zst"
  cp -- "$one/uki.efi" "$box/esp/EFI/Linux/palabre_1.efi"
  for name in current next; do cp -- "$FIRMWARE/keys/dev/bundle-$name.pub" "$box/keys/$name.pub"; done
  printf '{"product":"palabre","arch":"amd64","flavour":"core","version":1,"display":"1","floor":0,"channel":"development"}\n' >"$box/image.json"
  printf '%s\n' "$made" >"$box/made"
fi
# As palabre-box.service has it, but for the weights of its control group, which hold it back more.
tool nice -n 19 ionice -c 3 /w/program/amd64/palabre-update install /w/try/amd64-core-2/palabre-amd64-core-2.plbu --disk /w/test/again/disk \
  --keys /w/test/again/keys --esp /w/test/again/esp --efivars /w/test/again/efivars --state /w/test/again/state --run /w/test/again/run \
  --image /w/test/again/image.json --cmdline /w/try/amd64-core-1/work/cmdline
if [ "$*" = --check ]; then
  begin=$(tool sfdisk --json /w/test/again/disk | python3 -c 'import json, sys; print(next(p["start"] for p in json.load(sys.stdin)["partitiontable"]["partitions"] if p["name"] == "palabre_2"))')
  cmp -n "$(stat -c %s "$two/root")" -i "0:$((begin * 512))" "$two/root" "$box/disk" || die 'what was written is not the root of version 2'
  say "the root of version 2 is on the disk"
fi

#!/bin/bash
# Puts `fw flash` to the test: what it must refuse, without a byte written, and that a disk then holds the image, under
# GUIDs of its own.
# try_flash.sh IMAGE.zst, beside which IMAGE is. The disks are loop devices, but for the one that this system runs from.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
packed=$(realpath -- "$1") plain=${1%.zst}
mkdir -p "$WORK/test"
place=$(mktemp -d -p "$WORK/test" flash-XXXXXX)
mkdir "$place/mount"
loops=()
clean() {
  if mountpoint -q "$place/mount"; then umount "$place/mount"; fi
  for device in "${loops[@]}"; do losetup --detach "$device"; done
  rm -rf -- "$place"
}
trap clean EXIT

# disk NAME BYTES OPTION...: $loop is one of that size, with something on it that must stay.
disk() {
  head -c 1048576 /dev/urandom >"$place/$1"
  truncate -s "$2" "$place/$1"
  loop=$(losetup --find --show "${@:3}" "$place/$1") || die 'there is no loop device here: fw flash cannot be tested'
  loops+=("$loop")
}
# refused WHY DEVICE OPTION...: `fw flash` says so and ends with a failure. Nobody is there to confirm anything.
refused() {
  local why=$1 said
  shift
  if said=$("$FIRMWARE/fw" flash "$@" </dev/null 2>&1); then die "fw flash $* was not refused: $said"; fi
  said=$(tail -n 1 <<<"$said")
  [[ $said == *"$why"* ]] || die "fw flash $* was refused for another reason: $said"
  say "refused: $said"
}
# untouched COMMAND...: the command leaves $loop as it was, where an image begins.
untouched() {
  local before
  before=$(head -c 8388608 "$loop" | sha256sum)
  "$@"
  [ "$before" = "$(head -c 8388608 "$loop" | sha256sum)" ] || die "$loop was written to"
}

# The one that this system runs from. Not confirmed: what would not be refused for its reason, would be for that.
root=$(findmnt -nvo SOURCE --target /)
system=$(lsblk -nrspo NAME,TYPE -- "$root" 2>/dev/null | awk '$2 == "disk" { print $1; exit }')
[ -n "$system" ] || die "no disk of this system is seen from here (/ is $root): fw flash can be tested on a machine, not in a container"
refused 'is in use:' "$system" --image "$packed"

refused 'is not a block device' /dev/null --image "$packed" --yes
refused 'is not a block device' "$plain" --image "$packed" --yes
refused 'there is no disk behind' "$(losetup --find)" --image "$packed" --yes

disk mounted 64M
# Whole at once: what is not written then, the kernel writes while others look whether anybody did.
mkfs.ext4 -qF -E lazy_itable_init=0,lazy_journal_init=0 "$loop"
mount "$loop" "$place/mount"
printf 'stays\n' >"$place/mount/file"
sync -f "$place/mount/file"
untouched refused 'is in use:' "$loop" --image "$packed" --yes
[ "$(cat "$place/mount/file")" = stays ] || die 'the file system of a mounted disk was written to'
umount "$place/mount"

# As the kernel holds the second disk of a btrfs or of ZFS, which nothing else tells.
disk held 64M
coproc HOLD { exec python3 -c 'import os, sys; os.open(sys.argv[1], os.O_RDONLY | os.O_EXCL); print(flush=True); sys.stdin.read()' "$loop"; }
# shellcheck disable=SC2153 # Bash sets it.
holder=$HOLD_PID
read -r <&"${HOLD[0]}"
untouched refused 'or is in use by a file system over several disks' "$loop" --image "$packed" --yes
kill "$holder"
wait "$holder" 2>/dev/null || true

disk small $(($(stat -c %s -- "$plain") - 1048576))
untouched refused 'the image needs' "$loop" --image "$packed" --yes

disk coarse $(($(stat -c %s -- "$plain") + 4194304)) --sector-size 4096
untouched refused 'sectors of 4096 bytes' "$loop" --image "$packed" --yes

disk whole $(($(stat -c %s -- "$plain") + 4194304))
untouched refused 'not confirmed' "$loop" --image "$packed"
head -c $(($(stat -c %s -- "$packed") * 9 / 10)) "$packed" >"$place/short.img.zst"
untouched refused 'not a whole image' "$loop" --image "$place/short.img.zst" --yes
head -c $(($(stat -c %s -- "$plain") - 512)) "$plain" >"$place/short.img"
untouched refused 'not a whole image' "$loop" --image "$place/short.img" --yes
untouched refused 'not a whole image' "$loop" --image "$FIRMWARE/fw" --yes

# table DEVICE: without what a disk has of its own, its size among that.
table() { sfdisk --dump "$1" 2>/dev/null | sed -E -e '/^(label-id|device|last-lba): /d' -e 's/^.*(: start=)/\1/' -e '/name="palabre-esp"/s/uuid=[^,]*/uuid=/'; }
# own DEVICE: what it has of its own, the GUIDs of the disk and of the ESP.
own() { sfdisk --disk-id "$1" && sfdisk --part-uuid "$1" 1; }
# holds_it: $loop has the image, under names of its own.
holds_it() {
  cmp -i 1048576 -n $(($(stat -c %s -- "$plain") - 2 * 1048576)) "$plain" "$loop" || die 'the disk does not hold the image'
  sfdisk --quiet --verify "$loop" >&2 || die 'the partition table of the disk is damaged'
  [ "$(table "$plain" | grep -c 'uuid=[0-9A-F]')" = 2 ] || die 'not two partitions, root and hash tree, are compared'
  [ "$(table "$plain")" = "$(table "$loop")" ] || die "the disk has another partition table than the image: $(table "$loop")"
}

"$FIRMWARE/fw" flash "$loop" --image "$packed" --yes 2>/dev/null
holds_it
first=$(own "$loop")
disk other $(($(stat -c %s -- "$plain") + 4194304))
"$FIRMWARE/fw" flash "$loop" --image "$plain" --yes 2>/dev/null
holds_it
# Each of the six differs from the others.
names=$({ own "$plain"; printf '%s\n' "$first"; own "$loop"; } 2>/dev/null)
[ "$(sort -u <<<"$names" | grep -cE '^[0-9A-F-]{36}$')" = 6 ] || die "the disks of one image cannot be told apart: $names"
say "fw flash: what must be refused is, and a disk holds the image ($(stat -c %s -- "$plain") bytes) under GUIDs of its own"

#!/bin/bash
# What can be judged without starting an image: the scripts (shellcheck), the units (systemd-analyze verify), and how closed
# the program's unit is. check.sh, after a root was made for amd64; fails on the first finding.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
# Of 10; the highest that is let pass.
EXPOSURE=2.0

if command -v shellcheck >/dev/null; then
  (cd "$SOURCE" && shellcheck -x -P "$SOURCE" firmware/fw firmware/image/*.sh firmware/image/overlay/usr/lib/palabre/{addresses,ask,console,network,partitions,prepare,rescue,say,unlock,usb})
else
  say 'shellcheck is not installed: the scripts were not looked at'
fi
tree=$WORK/check
rm -rf -- "$tree"
cp -a --reflink=auto -- "$WORK/root/amd64-core/tree" "$tree"
cp -a --no-preserve=ownership -- "$IMAGE/overlay/." "$tree/"
install -m 0755 "$WORK"/program/amd64/palabre{,-update} "$tree/usr/bin/"
# shellcheck disable=SC2046 # one word a unit
tool systemd-analyze verify --root=/w/check --man=no $(cd "$IMAGE/overlay/usr/lib/systemd/system" &&
  find . -maxdepth 1 -name 'palabre*' -printf '%f\n' | sed 's/@\./@sda./') systemd-repart.service emergency.service
found=$(tool env SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0 systemd-analyze security --offline=yes --root=/w/check --no-pager palabre.service |
  sed -n 's/.*Overall exposure level for .*: \([0-9.]*\).*/\1/p')
rm -rf -- "$tree"
awk -v found="$found" -v most="$EXPOSURE" 'BEGIN { exit !(found != "" && found + 0 <= most + 0) }' ||
  die "palabre.service has an exposure of ${found:-?}, at most $EXPOSURE is allowed"
say "scripts and units are well; exposure of palabre.service $found (at most $EXPOSURE)"

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
  (cd "$SOURCE" && shellcheck -x -P "$SOURCE" firmware/fw firmware/image/*.sh firmware/image/report.room \
    firmware/image/overlay/usr/lib/palabre/{addresses,ask,console,network,partitions,prepare,recovery,rescue,reset,restart,say,unlock,usb} \
    firmware/image/overlay.room/usr/lib/palabre/{browser,screen,start-page})
else
  say 'shellcheck is not installed: the scripts were not looked at'
fi
tree=$WORK/check
# units FLAVOUR: those of ours, all of them, are known to systemd, and each that a preset names is there.
units() {
  local overlays=("$IMAGE/overlay") found missing
  [ "$1" = core ] || overlays+=("$IMAGE/overlay.$1")
  rm -rf -- "$tree"
  cp -a --reflink=auto -- "$WORK/root/amd64-$1/tree" "$tree"
  cp -a --no-preserve=ownership -- "${overlays[@]/%//.}" "$tree/"
  install -m 0755 "$WORK"/program/amd64/palabre{,-update} "$tree/usr/bin/"
  found=$(find "${overlays[@]/%//usr/lib/systemd/system}" -maxdepth 1 -type f -name 'palabre*' -printf '%f\n' | sed 's/@\./@sda./')
  # shellcheck disable=SC2086 # one word a unit
  tool systemd-analyze verify --root=/w/check --man=no $found systemd-repart.service emergency.service
  missing=$(sed -n 's/^enable \(palabre.*\)/\1/p' "$tree"/usr/lib/systemd/system-preset/00-palabre*.preset | while read -r unit; do
    [ -e "$tree/usr/lib/systemd/system/$unit" ] || printf ' %s' "$unit"
  done)
  [ -z "$missing" ] || die "a preset of the $1 flavour enables what is not there:$missing"
  # systemd-analyze does not look for programs below a root.
  missing=$(cd "$tree/usr/lib/systemd/system" && cat palabre*.service |
    sed -n 's/^Exec[A-Z][A-Za-z]*=[-+!@:]*\([^ ]*\).*/\1/p' | sort -u | while read -r program; do
    [ -x "$tree$program" ] || printf ' %s' "$program"
  done)
  [ -z "$missing" ] || die "units of the $1 flavour start what is not there:$missing"
}
if [ -d "$WORK/root/amd64-room" ]; then units room; else say 'no room root: its units were not looked at'; fi
units core
found=$(tool env SYSTEMD_COLORS=0 SYSTEMD_URLIFY=0 systemd-analyze security --offline=yes --root=/w/check --no-pager palabre.service |
  sed -n 's/.*Overall exposure level for .*: \([0-9.]*\).*/\1/p')
rm -rf -- "$tree"
awk -v found="$found" -v most="$EXPOSURE" 'BEGIN { exit !(found != "" && found + 0 <= most + 0) }' ||
  die "palabre.service has an exposure of ${found:-?}, at most $EXPOSURE is allowed"
say "scripts and units are well; exposure of palabre.service $found (at most $EXPOSURE)"

#!/bin/bash
# Builds the images that `fw test` needs and runs try.py on them. test.sh --quick|--full [--lanes N]
# The images differ from what is shipped in three things: a trial takes 20 s of good health, asked for every 5 s, instead of 5 minutes, a box whose
# disk is closed waits 90 s for its key instead of 8 minutes, and telephones speak through the few ports that are forwarded; a room's also says what
# its user reaches (report.room). Those of `release` differ in nothing. They come to $WORK/try, so that nobody takes one of them for an image to be used.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
asked=${1#--}
shift
fw=$FIRMWARE/fw
overlays=$WORK/overlay
rm -rf -- "$overlays"
mkdir -p "$WORK/test" "$WORK/out"
# The images that somebody means to use.
shipped() { find "$WORK/out" -maxdepth 2 -printf '%p %T@\n' | sort; }
before=$(shipped)

# variant NAME: an overlay that shortens the trial, to be broken further.
variant() {
  local units=$overlays/$1/usr/lib/systemd/system
  mkdir -p "$units/palabre-health.service.d" "$units/palabre.service.d" "$overlays/$1/usr/bin"
  sed -n '/^ExecStart=/{:a;/\\$/{N;ba};s/ health / health --every 5 --good-for 20 /;s/^/[Service]\nExecStart=\n/;p}' \
    "$IMAGE/overlay/usr/lib/systemd/system/palabre-health.service" >"$units/palabre-health.service.d/short.conf"
  printf '[Service]\nEnvironment=PALABRE__SIP__RTP_PORTS=16384-16399\n' >"$units/palabre.service.d/forwarded.conf"
  mkdir -p "$overlays/$1/usr/lib/palabre"
  sed 's/^patience=480$/patience=90/' "$IMAGE/overlay/usr/lib/palabre/unlock" >"$overlays/$1/usr/lib/palabre/unlock"
  chmod 0755 "$overlays/$1/usr/lib/palabre/unlock"
}
variant sound
variant ends
printf '#!/bin/sh\nexit 1\n' >"$overlays/ends/usr/bin/palabre"
variant hangs
printf '#!/bin/sh\nexec sleep infinity\n' >"$overlays/hangs/usr/bin/palabre"
chmod 0755 "$overlays"/{ends,hangs}/usr/bin/palabre
# Ready and well, but a second participant is refused everywhere.
variant mute
printf '[Service]\nEnvironment=PALABRE__ROOMS__MAX_PARTICIPANTS=1\n' >"$overlays/mute/usr/lib/systemd/system/palabre.service.d/mute.conf"

"$fw" prepare --arch amd64
"$IMAGE/assemble.sh" --arch amd64 --version 1 --overlay "$overlays/sound"
"$IMAGE/assemble.sh" --arch amd64 --version 2 --overlay "$overlays/sound" --only-bundle
"$IMAGE/try_release.sh"
"$IMAGE/try_flash.sh" "$WORK/try/amd64-core-1/palabre-amd64-core-1.img.zst"
if [ "$asked" = full ]; then
  "$IMAGE/try_again.sh" --arch amd64 --version 2 --overlay "$overlays/sound"
  # Those between are full.sh's.
  "$IMAGE/assemble.sh" --arch amd64 --version 3 --overlay "$overlays/ends" --only-bundle
  "$IMAGE/assemble.sh" --arch amd64 --version 6 --overlay "$overlays/hangs" --only-bundle
  "$IMAGE/assemble.sh" --arch amd64 --version 7 --overlay "$overlays/mute" --only-bundle
  "$IMAGE/full.sh" "$overlays/sound"
  "$fw" prepare --arch amd64 --flavour room
  variant room
  install -m 0755 "$IMAGE/report.room" "$overlays/room/usr/lib/palabre/report"
  units=$overlays/room/usr/lib/systemd/system
  mkdir -p "$units/graphical.target.wants"
  printf '[Unit]\nAfter=palabre-screen.service\n[Service]\nExecStart=/usr/lib/palabre/report\nStandardOutput=tty\nTTYPath=/dev/console\n' \
    >"$units/test-report.service"
  ln -sfn ../test-report.service "$units/graphical.target.wants/test-report.service"
  "$IMAGE/assemble.sh" --arch amd64 --flavour room --version 1 --overlay "$overlays/room"
  "$IMAGE/assemble.sh" --arch amd64 --flavour room --version 2 --overlay "$overlays/room" --only-bundle
  # Every unit, judged by the box's own systemd.
  "$IMAGE/check.sh"
  "$fw" prepare --arch arm64
  "$IMAGE/assemble.sh" --arch arm64 --version 1 --overlay "$overlays/sound"
  "$IMAGE/assemble.sh" --arch arm64 --version 2 --overlay "$overlays/sound" --only-bundle
  "$fw" prepare --arch arm64 --flavour room
  "$IMAGE/assemble.sh" --arch arm64 --flavour room --version 1 --overlay "$overlays/room"
fi
[ "$before" = "$(shipped)" ] || die "images in $WORK/out, which are not for tests, were changed by this one"
exec python3 "$IMAGE/try.py" "$asked" "$@"

#!/bin/bash
# Runs the start page and the browser of the room flavour here, without a box around them: at the speed of this machine,
# on no screen, with a camera and a microphone that Chromium makes up. screen.sh FOLDER, in a network namespace where
# ports 80 and 443 of loopback answer; FOLDER/run is its /run. Ends with the browser, or when it is killed. `try_room.py`
# uses it.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
folder=$1
tree=$folder/tree
mkdir -p "$tree"
cp -a --reflink=auto -- "$WORK/root/amd64-room/tree/." "$tree/"
cp -a --no-preserve=ownership -- "$IMAGE/overlay/." "$IMAGE/overlay.room/." "$tree/"
tool systemd-sysusers --root="/w${tree#"$WORK"}" 2>/dev/null
printf '{"display":"0.0.0+0"}\n' >"$tree/usr/lib/palabre/image.json"
sed -i 's/^  --kiosk /  --use-fake-device-for-media-stream --kiosk /' "$tree/usr/lib/palabre/browser"
mkdir -p "$tree"/{proc,sys,dev,run,tmp,mnt}
# By pivot_root: whoever is in a chroot may make no user namespace, and Chromium's sandbox needs one.
# shellcheck disable=SC2016 # expanded inside
exec unshare --mount --propagation private --pid --fork --kill-child -- bash -euc '
  mount --bind "$1" "$1"
  cd "$1"
  mount -t proc proc proc
  mount --rbind /dev dev
  mount --rbind /sys sys
  mount -t tmpfs -o mode=1777 tmpfs tmp
  mount --bind "$2/run" run
  pivot_root . mnt
  umount -l /mnt
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  exec env -i PATH=/usr/sbin:/usr/bin bash -euc "
    mkdir -p /run/palabre/console /run/palabre/room /run/palabre-room/home
    chown -R palabre-room: /run/palabre-room
    chmod 0700 /run/palabre-room
    printf \"Palabre is ready\n\" >/run/palabre/console/announce
    /usr/lib/palabre/start-page 2>/dev/null &
    exec setpriv --reuid palabre-room --regid palabre-room --clear-groups --no-new-privs --bounding-set=-all \
      env HOME=/run/palabre-room/home XDG_RUNTIME_DIR=/run/palabre-room DBUS_SESSION_BUS_ADDRESS=disabled: \
      WLR_BACKENDS=headless WLR_LIBINPUT_NO_DEVICES=1 WLR_RENDERER=pixman cage -d -- /usr/lib/palabre/browser"
' screen "$tree" "$folder"

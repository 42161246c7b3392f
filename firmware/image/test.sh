#!/bin/bash
# Builds the images that `fw test` needs and runs try.py on them. test.sh --quick|--full
# The images differ from what is shipped in one thing: a trial takes 20 s of good health instead of 5 minutes.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
machines=(amd64)
[ "$1" = --full ] && machines+=(arm64)
fw=$FIRMWARE/fw
short=$WORK/overlay/short broken=$WORK/overlay/broken
rm -rf -- "$WORK/overlay"
mkdir -p "$short/usr/lib/systemd/system/palabre-health.service.d" "$WORK/test"
cat >"$short/usr/lib/systemd/system/palabre-health.service.d/short.conf" <<'UNIT'
[Service]
ExecStart=
ExecStart=/usr/bin/palabre-update health --url http://127.0.0.1:80/readyz --every 5 --good-for 20 --grace 90 \
  --call-as palabre --call "/usr/bin/palabre call --check --config /etc/palabre/palabre.toml"
UNIT
cp -a "$short" "$broken"
mkdir -p "$broken/usr/bin"
printf '#!/bin/sh\nexit 1\n' >"$broken/usr/bin/palabre"
chmod 0755 "$broken/usr/bin/palabre"

for arch in "${machines[@]}"; do
  "$fw" prepare --arch "$arch"
  "$IMAGE/assemble.sh" --arch "$arch" --version 1 --overlay "$short"
done
"$IMAGE/assemble.sh" --arch amd64 --version 2 --overlay "$short" --only-bundle
"$IMAGE/assemble.sh" --arch amd64 --version 3 --overlay "$broken" --only-bundle
# shellcheck disable=SC2016 # expanded inside
exec unshare --net -- bash -c 'ip link set lo up; exec python3 "$0" "$1"' "$IMAGE/try.py" "${1#--}"

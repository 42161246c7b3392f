#!/bin/bash
# The further images of `fw test --full`, on top of those of test.sh: version 2 once more, with the keys in a token; version 4, whose
# kernel image strangers have signed for Secure Boot in a bundle that is ours; version 5, which fills its disk; version 8, parts of
# which hang when it is told to; version 9, whose program ends for ever when it is told to; version 10, whose system stands still
# from its first step; and versions 11 and 12, a disk and an update as they are shipped, with release keys in a token.
# full.sh OVERLAY, the one of the other images.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
short=$1 filled=$WORK/overlay/filled hung=$WORK/overlay/hung ended=$WORK/overlay/ended foreign=$WORK/test/foreign
keys=$FIRMWARE/keys/dev

# in_token KEYS FOLDER: makes a folder of the same keys, the private ones in a token in software (PKCS#11).
in_token() {
  rm -rf -- "$2"
  install -d -m 700 -- "$2" "$2/tokens"
  cp -- "$1"/*.pub "$1/secureboot.crt" "$2/"
  if [ -e "$1/DEVELOPMENT" ]; then cp -- "$1/DEVELOPMENT" "$2/"; fi
  printf 'directories.tokendir = /token/tokens\nobjectstore.backend = file\n' >"$2/softhsm2.conf"
  printf '123456' >"$2/pin"
  printf '%s\n' SOFTHSM2_CONF=/keys/softhsm2.conf PKCS11_PROVIDER_MODULE=/usr/lib/softhsm/libsofthsm2.so >"$2/token.env"
  # shellcheck disable=SC2016 # expanded inside
  BINDS="$1:/keys $2:/token" tool sh -euc '
    export SOFTHSM2_CONF=/token/softhsm2.conf
    softhsm2-util --init-token --free --label palabre --so-pin 123456 --pin 123456
    for name in bundle-current secureboot pcr; do
      openssl pkcs8 -topk8 -nocrypt -in "/keys/$name.key" -out /tmp/key
      softhsm2-util --import /tmp/key --token palabre --label "$name" --id "$(printf "%s" "$name" | od -An -tx1 | tr -d " \n")" --pin 123456
      echo "pkcs11:token=palabre;object=$name;type=private?pin-source=file:/keys/pin" >"/token/$name.uri"
    done
    openssl req -x509 -key /keys/pcr.key -subj "/CN=Palabre PCR" -days 3650 -out /token/pcr.crt' >/dev/null
  sed -i 's#/token/#/keys/#' "$2/softhsm2.conf"
}

# --- the same keys in a token: what comes of them must be the same too
token=$WORK/test/token
in_token "$keys" "$token"
measured() { tool objcopy -O binary --only-section=.pcrsig "/w/try/amd64-core-2/work/uki.unsigned" /dev/stdout | sha256sum; }
before=$(measured)
"$IMAGE/assemble.sh" --arch amd64 --version 2 --overlay "$short" --keys "$token" --only-bundle
[ "$before" = "$(measured)" ] || die 'a key in a token makes another signature of the measurement than the same key in a file'
tool sbverify --cert "/w/test/token/secureboot.crt" /w/try/amd64-core-2/uki.efi >&2

# --- as it is shipped: a disk with keys made as INSTALL.md says, in a token, and nothing of the tests in it
made=$WORK/test/ceremony shipped=$WORK/test/shipped
rm -rf -- "$made"
install -d -m 700 "$made"
# The very commands of the manual.
ceremony=$(sed -n '/^## Key ceremony/,/^## Sizing/s/^   \(openssl .*\)/\1/p' "$FIRMWARE/INSTALL.md")
[ "$(wc -l <<<"$ceremony")" = 5 ] || die "INSTALL.md makes its keys by other commands than these: $ceremony"
BINDS="$made:/keys" tool sh -euc "cd /keys; $ceremony" 2>"$WORK/test/ceremony.log" || die "the commands of INSTALL.md make no keys: $(tail -n 3 "$WORK/test/ceremony.log")"
for name in bundle-current bundle-next; do "$FIRMWARE/fw" keys public "$made/$name.key" >"$made/$name.pub"; done
in_token "$made" "$shipped"
rm -rf -- "$made"
"$IMAGE/assemble.sh" --arch amd64 --version 11 --release --keys "$shipped" --into release
"$IMAGE/assemble.sh" --arch amd64 --version 12 --release --keys "$shipped" --into amd64-core-12 --only-bundle
for signed in uki.efi work/boot.efi; do tool sbverify --cert /w/test/shipped/secureboot.crt "/w/try/release/$signed" >&2; done

# --- strangers
rm -rf -- "$foreign"
mkdir -p "$foreign"
cp -- "$keys"/* "$foreign/"
rm -- "$foreign"/secureboot.*
BINDS="$foreign:/keys" tool openssl req -x509 -newkey rsa:2048 -nodes -days 3650 -subj '/CN=Somebody else' \
  -keyout /keys/secureboot.key -out /keys/secureboot.crt 2>/dev/null
"$IMAGE/assemble.sh" --arch amd64 --version 4 --overlay "$short" --keys "$foreign" --only-bundle

# --- no space
rm -rf -- "$filled"
cp -a -- "$short" "$filled"
units=$filled/usr/lib/systemd/system
mkdir -p "$units/multi-user.target.wants" "$filled/usr/lib/palabre"
# Not one block, those kept for root too. Reserved, not written: it takes no time and no space on the machine of the test.
cat >"$filled/usr/lib/palabre/fill" <<'FILL'
#!/bin/sh
sync
for size in 256M 16M 1M 64K 4K; do
  n=0
  while fallocate -l "$size" "/var/lib/fill.$1.$size.$n" 2>/dev/null; do n=$((n + 1)); done
done
sync
echo "TEST: $2$(df --output=avail -k /var | tail -n 1 | tr -d ' ') KiB are left" >/dev/console
FILL
chmod 0755 "$filled/usr/lib/palabre/fill"
cat >"$units/test-fill.service" <<'UNIT'
[Unit]
RequiresMountsFor=/var/lib/palabre
Before=palabre.service
ConditionPathExists=/var/lib/palabre/program/palabre.db
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/palabre/fill first ''
UNIT
cat >"$units/test-fill-again.path" <<'UNIT'
[Path]
PathModified=/run/palabre/console/announce
UNIT
# Again and again: the journal gives some of its space back when there is none left.
cat >"$units/test-fill-again.service" <<'UNIT'
[Unit]
After=test-fill.service palabre.service
Requisite=test-fill.service
[Service]
Type=exec
ExecCondition=/bin/grep -q "Palabre is ready" /run/palabre/console/announce
ExecCondition=/bin/sh -c 'ls /var/lib/fill.first.*'
ExecStart=/bin/sh -c 'while :; do /usr/lib/palabre/fill second "again "; sleep 1; done'
UNIT
for unit in test-fill.service test-fill-again.path; do ln -sfn "../$unit" "$units/multi-user.target.wants/$unit"; done
"$IMAGE/assemble.sh" --arch amd64 --version 5 --overlay "$filled"

# --- hangs when a stick with a certain label is plugged in, once for each
rm -rf -- "$hung"
cp -a -- "$short" "$hung"
mkdir -p "$hung/usr/lib/palabre" "$hung/usr/lib/udev/rules.d"
cat >"$hung/usr/lib/palabre/hang" <<'HANG'
#!/bin/sh
: >"/var/lib/hung.$1"
sync
echo "TEST: $1" >/dev/console
case $1 in
  # It does not take the signal that stops others; its control group can be frozen.
  INIT) echo 1 >/sys/fs/cgroup/init.scope/cgroup.freeze ;;
  # And does not restart by itself after 10 seconds, as a box does.
  KERNEL) echo 0 >/proc/sys/kernel/panic && echo c >/proc/sysrq-trigger ;;
  PROGRAM) systemctl kill --signal=KILL palabre.service ;;
esac
HANG
chmod 0755 "$hung/usr/lib/palabre/hang"
cat >"$hung/usr/lib/systemd/system/test-hang@.service" <<'UNIT'
[Unit]
RequiresMountsFor=/var/lib
After=palabre.service
ConditionPathExists=!/var/lib/hung.%i
[Service]
Type=exec
ExecStart=/usr/lib/palabre/hang %i
UNIT
cat >"$hung/usr/lib/udev/rules.d/62-test-hang.rules" <<'RULES'
ACTION=="add", SUBSYSTEM=="block", ENV{ID_BUS}=="usb", ENV{ID_FS_LABEL}=="INIT|KERNEL|PROGRAM", TAG+="systemd", ENV{SYSTEMD_WANTS}+="test-hang@$env{ID_FS_LABEL}.service"
RULES
"$IMAGE/assemble.sh" --arch amd64 --version 8 --overlay "$hung"

# --- ends for ever once it was told to. It then has half a minute a start instead of a quarter of an hour.
rm -rf -- "$ended"
cp -a -- "$hung" "$ended"
install -m 0755 "$WORK/program/amd64/palabre" "$ended/usr/lib/palabre/palabre"
cat >"$ended/usr/bin/palabre" <<'PROGRAM'
#!/bin/sh
[ -e /var/lib/hung.PROGRAM ] && exit 1
exec /usr/lib/palabre/palabre "$@"
PROGRAM
chmod 0755 "$ended/usr/bin/palabre"
short_trial=$ended/usr/lib/systemd/system/palabre-health.service.d/short.conf
sed -i 's/ --good-for 20 / --good-for 20 --patience 30 /' "$short_trial"
grep -q -- '--patience 30' "$short_trial" || die 'the patience of version 9 is not shortened'
"$IMAGE/assemble.sh" --arch amd64 --version 9 --overlay "$ended" --only-bundle

# --- stands still before anything of the system runs: what is there instead of systemd waits for ever.
still=$WORK/overlay/still
rm -rf -- "$still"
cp -a -- "$short" "$still"
mkdir -p "$still/usr/lib/systemd"
printf '#!/bin/sh\necho "TEST: STILL" >/dev/console\nexec sleep infinity\n' >"$still/usr/lib/systemd/systemd"
chmod 0755 "$still/usr/lib/systemd/systemd"
"$IMAGE/assemble.sh" --arch amd64 --version 10 --overlay "$still" --only-bundle

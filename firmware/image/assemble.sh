#!/bin/bash
# Makes an image out of a root and the programs: verified root, signed kernel, disk, update bundle, list of parts.
# assemble.sh --arch A --flavour F --version N [--floor N] [--keys DIR] [--release] [--overlay DIR] [--only-bundle] [--into NAME] [--only-check]
# Everything comes to $WORK/out/A-F-N/; what is for tests to $WORK/try/: with --overlay to A-F-N/ there, with --into to NAME/. Same root and
# programs, same bytes, but for signatures. Seconds, not minutes. --only-check: what can be refused before the root and the programs are there, is.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
# Debian mends faults every week. A higher number lets releases out with more of those that are known, a lower one asks more often for new
# roots, which take a network and 20 minutes.
MOST_DAYS=30
arch='' flavour=core version=1 floor=0 keys=$FIRMWARE/keys/dev release='' extra='' disk=yes into='' check=''
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2; shift ;;
    --flavour) flavour=$2; shift ;;
    --version) version=$2; shift ;;
    --floor) floor=$2; shift ;;
    --keys) keys=$2; shift ;;
    --release) release=--release ;;
    --overlay) extra=$2; shift ;;
    --only-bundle) disk='' ;;
    --into) into=$2; shift ;;
    --only-check) check=yes ;;
    *) die "assemble does not know '$1'" ;;
  esac
  shift
done
machine "$arch"
[[ $version =~ ^[1-9][0-9]{0,8}$ ]] || die "--version takes a whole number from 1, not '$version'"
[[ $floor =~ ^(0|[1-9][0-9]{0,8})$ ]] || die "--floor takes a whole number, not '$floor'"
[ "$floor" -le "$version" ] || die "--floor $floor is above the version, $version: such an update refuses itself"
base=$WORK/root/$arch-$flavour
if [ -s "$base/made-on" ]; then
  day=$(date -d "@$(cat "$base/made-on")" +%F) days=$(age_in_days "$base/made-on")
elif [ -n "$check" ]; then
  # It will be made today.
  day='' days=0
else
  die "there is no Debian root in $base whose day is known. Make it: firmware/fw image --arch $arch --flavour $flavour"
fi
# One that is of tomorrow was made by another clock: nobody knows how old it is.
if [ -n "$release" ] && { [ "$days" -gt "$MOST_DAYS" ] || [ "$days" -lt 0 ]; }; then
  die "Debian's packages are those of $day, at most $MOST_DAYS days are let into a release. Run firmware/fw clean roots, which also deletes the images and updates made here, then this again, with a network"
fi
[ -n "$release" ] && [ -e "$keys/DEVELOPMENT" ] && die "a release is not signed with development keys ($keys)"
# Those are made when they are missing.
if [ -n "$check" ] && [ ! -e "$keys" ] && [ "$keys" = "$FIRMWARE/keys/dev" ]; then exit 0; fi
remedy='Make development keys: firmware/fw keys dev'
if [ -n "$release" ]; then remedy='How the keys of releases are made: "Key ceremony" in firmware/INSTALL.md'; fi
keys=$(cd -- "$keys" 2>/dev/null && pwd) || die "there is no folder of keys at $keys. $remedy"
for key in bundle-current secureboot pcr; do
  [ -e "$keys/$key.key" ] || [ -e "$keys/$key.uri" ] ||
    die "no key $key in $keys, neither as a file ($key.key) nor as the address of a token's (${key}.uri). $remedy"
done
for file in bundle-current.pub bundle-next.pub secureboot.crt pcr.pub; do
  [ -s "$keys/$file" ] || die "the public half $file is missing in $keys, or empty. $remedy"
done
if [ -e "$keys/pcr.uri" ] && [ ! -e "$keys/pcr.crt" ]; then
  die "the key pcr is in a token: its certificate is needed in $keys/pcr.crt (openssl req -x509, any name)"
fi
if [ -n "$check" ]; then exit 0; fi
need_root image
program=$WORK/program/$arch
name=$arch-$flavour-$version
# Apart: what `fw flash`, `fw run` and INSTALL.md take is no image with a short trial and units that fill its disk.
place=out/$name
if [ -n "$extra$into" ]; then place=try/${into:-$name}; fi
out=$WORK/$place
w=/w/$place
kernel=$(cat "$base/boot/release")
commit=$(git -C "$SOURCE" rev-parse HEAD 2>/dev/null || echo unknown)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$SOURCE" log -1 --format=%ct 2>/dev/null || echo 1767225600)}
export SOURCE_DATE_EPOCH
display=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' "$SOURCE/Cargo.toml")+$version
case $arch in
  amd64) root_type=4f68bce3-e8cd-4db1-96e7-fbcaf984b709 verity_type=2c7357ed-ebd2-46d9-aec1-23d437ec2bf5 serial=ttyS0,115200 ;;
  arm64) root_type=b921b045-1df0-41c3-af44-4c6f280d3fae verity_type=df3300ce-d69f-4c92-978c-9bfb0f38d820 serial=ttyAMA0 ;;
esac
case $flavour in core) slot=640 ;; room) slot=1536 ;; esac

# signing COMMAND...: in the tools root, with the keys at /keys and what reaches a token in the environment: token.env has lines
# such as PKCS11_PROVIDER_MODULE=/usr/lib/softhsm/libsofthsm2.so.
token=()
if [ -e "$keys/token.env" ]; then mapfile -t token < <(list "$keys/token.env"); fi
signing() { BINDS="$keys:/keys" tool env "${token[@]}" "$@"; }
# held NAME: how systemd's tools are told a private key. A file of the folder, or an object in a token by its URI (RFC 7512).
held() {
  if [ -e "$keys/$1.uri" ]; then
    printf '%s\n' "--private-key=$(list "$keys/$1.uri")" --private-key-source=provider:pkcs11
  else
    printf '%s\n' "--private-key=/keys/$1.key"
  fi
}
channel=release
[ -e "$keys/DEVELOPMENT" ] && channel=development
signing /w/program/bundle/palabre-bundle keys check /keys "$channel"
mapfile -t secureboot < <(held secureboot)
mapfile -t pcr < <(held pcr)
# sign IN OUT: for Secure Boot.
sign() {
  signing /usr/lib/systemd/systemd-sbsign sign --certificate=/keys/secureboot.crt "${secureboot[@]}" --output="$2" "$1" >&2 ||
    die "$1 could not be signed"
}
if [ -e "$keys/bundle-current.uri" ]; then
  signer=(--signer "/src/firmware/image/token.sh '$(list "$keys/bundle-current.uri")'" --public /keys/bundle-current.pub)
else
  signer=(--key /keys/bundle-current.key)
fi

say "assembling $name; Debian's packages are those of $day"
rm -rf -- "$out"
mkdir -p "$out/work"
tree=$out/work/tree
cp -a --reflink=auto -- "$base/tree" "$tree"

# --- ours, on top of Debian's
cp -a --no-preserve=ownership -- "$IMAGE/overlay/." "$tree/"
[ -d "$IMAGE/overlay.$flavour" ] && cp -a --no-preserve=ownership -- "$IMAGE/overlay.$flavour/." "$tree/"
sed -i "s/640M/${slot}M/" "$tree/usr/lib/palabre/repart.d/"*-b.conf
install -m 0755 "$program/palabre" "$program/palabre-update" "$tree/usr/bin/"
[ -n "$extra" ] && cp -a --no-preserve=ownership -- "$extra/." "$tree/"
mkdir -p "$tree/usr/lib/palabre/keys"
install -m 0644 "$keys/bundle-current.pub" "$tree/usr/lib/palabre/keys/current.pub"
install -m 0644 "$keys/bundle-next.pub" "$tree/usr/lib/palabre/keys/next.pub"
printf '{"product":"palabre","arch":"%s","flavour":"%s","version":%s,"display":"%s","floor":%s,"channel":"%s","created":%s}\n' \
  "$arch" "$flavour" "$version" "$display" "$floor" "$channel" "$SOURCE_DATE_EPOCH" >"$tree/usr/lib/palabre/image.json"
printf 'IMAGE_ID=palabre-%s\nIMAGE_VERSION=%s\n' "$flavour" "$version" >>"$tree/usr/lib/os-release"
sed -i -e "s/^PRETTY_NAME=.*/PRETTY_NAME=\"Palabre $display\"/" "$tree/usr/lib/os-release"
for made in crates crates.licences pages.licences std; do
  [ -s "$program/$made" ] || die "the list '$made' of what the programs are made of is missing. Build them again: firmware/fw image --arch $arch"
done
tool python3 /src/firmware/image/parts.py --packages "/w/root/$arch-$flavour/packages" --crates "/w/program/$arch/crates" \
  --lock /src/Cargo.lock --pages /src/admin/web/package-lock.json --std "$(cat "$program/std")" \
  --name "palabre-$flavour-$arch" --version "$display" --commit "$commit" --epoch "$SOURCE_DATE_EPOCH" >"$out/sbom.cdx.json"
cp "$out/sbom.cdx.json" "$tree/usr/share/palabre/sbom.cdx.json"
cp "$SOURCE/LICENSE" "$tree/usr/share/palabre/licences/palabre"
cp "$program/crates.licences" "$tree/usr/share/palabre/licences/rust-crates"
cp "$program/pages.licences" "$tree/usr/share/palabre/licences/npm-packages"
cp "$TOOLS/usr/share/doc/libstd-rust-dev/copyright" "$tree/usr/share/palabre/licences/rust-std"

# --- one state of everything that would otherwise be made at the first start
mkdir -p "$tree"/{proc,sys,dev,run,var,efi,tmp,mnt,root,boot}
: >"$tree/etc/machine-id"
printf 'palabre\n' >"$tree/etc/hostname"
ln -sfn ../run/systemd/resolve/stub-resolv.conf "$tree/etc/resolv.conf"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$tree/etc/hosts"
tool systemd-sysusers --root="$w/work/tree"
# Locked without a way to unlock: no password opens "!*".
sed -i 's/^root:[^:]*:.*/root:!*:20000::::::/' "$tree/etc/shadow"
sed -i 's/^\([^:]*:[^:]*\):[0-9]*:/\1:20000:/' "$tree/etc/shadow"
sed -i 's#^root:\(.*\):[^:]*$#root:\1:/usr/sbin/nologin#' "$tree/etc/passwd"
rm -f "$tree"/etc/{passwd-,shadow-,group-,gshadow-,.pwd.lock}
rm -rf "$tree"/etc/systemd/system/*.wants "$tree"/etc/systemd/system/*.service "$tree"/etc/rc*.d
mkdir -p "$tree/etc/systemd/system"
# Each is a program that runs before any unit does: what they look for is not in the box.
for generator in cryptsetup debug getty gpt-auto hibernate-resume integritysetup rc-local run ssh system-update sysv veritysetup; do
  rm -f "$tree/usr/lib/systemd/system-generators/systemd-$generator-generator"
done
list "$IMAGE/masked" | while IFS= read -r unit; do ln -sfn /dev/null "$tree/etc/systemd/system/$unit"; done
ln -sfn /usr/lib/systemd/system/multi-user.target "$tree/etc/systemd/system/default.target"
[ "$flavour" = room ] && ln -sfn /usr/lib/systemd/system/graphical.target "$tree/etc/systemd/system/default.target"
tool systemctl --root="$w/work/tree" preset-all >"$out/work/preset.log" 2>&1 || { cat "$out/work/preset.log" >&2; die 'units could not be enabled'; }
chmod 0755 "$tree"; chmod 0700 "$tree/root"; chmod 1777 "$tree/tmp"
tool ldconfig -r "$w/work/tree" 2>/dev/null || true
# Nobody logs in: no account that a password opens, no program that asks for one over the network, no unit that asks at a console.
opens=$(awk -F: '$2 !~ /^[!*]/ { printf " %s", $1 }' "$tree/etc/shadow")
[ -z "$opens" ] || die "a password may open these accounts:$opens"
opens=$(find "$tree"/usr/{bin,sbin} "$tree"/usr/lib/openssh "$tree"/{etc,usr/lib}/systemd/system/*.{wants,requires} \
  \( -name sshd -o -name telnetd -o -name login -o -name 'dropbear*' -o -name '*getty@*' -o -name 'debug-shell*' -o -name 'ssh*.s*' \) -printf ' %P' 2>/dev/null || true)
[ -z "$opens" ] || die "this would let people log in:$opens"
rm -rf "${tree:?}/var"/* "$tree/usr/share/dbus-1/system-services/org.freedesktop.login1.service"

# What is ours bears the date of the commit, and not the one of a checkout, from which mkfs.erofs takes nothing but what is later: the
# same bytes come of it everywhere, and the clock of a box without a battery starts at that date.
for from in "$IMAGE/overlay" "$IMAGE/overlay.$flavour" ${extra:+"$extra"}; do
  [ -d "$from" ] || continue
  (cd -- "$from" && find . -print0) | (cd -- "$tree" && xargs -0 touch -h -c -d "@$SOURCE_DATE_EPOCH")
done

# --- read-only root and its hash tree
uuid_of() { printf '%s' "$1" | sha256sum | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12}).*/\1-\2-\3-\4-\5/'; }
tool mkfs.erofs -z"${EROFS:-lz4hc,level=12}" -C65536 -Efragments,ztailpacking --all-time -T"$SOURCE_DATE_EPOCH" --all-root \
  -U"$(uuid_of root)" --quiet "$w/root" "$w/work/tree" >"$out/work/erofs.log" 2>&1 || { cat "$out/work/erofs.log" >&2; die 'mkfs.erofs failed'; }
size() { stat -c %s -- "$1"; }
[ "$(size "$out/root")" -le $((slot * 1024 * 1024)) ] || die "the root has $(size "$out/root") bytes, its slot $slot MiB"
salt=$(sha256sum <"$out/root" | cut -c1-64)
roothash=$(tool veritysetup format --salt="$salt" --uuid="$(uuid_of "$salt")" "$w/root" "$w/verity" | sed -n 's/^Root hash:[[:space:]]*//p')
[ ${#roothash} = 64 ] || die 'veritysetup gave no root hash'
printf '%s\n' "$roothash" >"$out/roothash"

# --- the kernel's command line
# A damaged data partition is repaired without a question: there is nobody to ask. Credentials would come from the SMBIOS strings of the
# machine, from its hypervisor and from the EFI system partition, none of which anybody has signed, and systemd makes network settings,
# files and whole units of them: the box takes its settings from its administrator and from a stick.
# Processors run at full speed: waking up slowly costs packets their time.
cmdline="palabre.roothash=$roothash cpufreq.default_governor=performance panic=10 fsck.repair=yes systemd.gpt_auto=no systemd.import_credentials=no systemd.machine_id=firmware console=tty0 console=$serial quiet loglevel=4 systemd.show_status=no"

# --- initrd: our PID 1, what finds a disk, and the line again: nothing may be added to it
initrd=$out/work/initrd
from=usr/lib/modules/$kernel
mkdir -p "$initrd/lib/modules/$kernel"
install -m 0755 "$program/palabre-init" "$initrd/init"
printf '%s' "$cmdline" >"$initrd/cmdline"
# Only what the root has too: lists name folders, the root's choice is the smaller one.
tool python3 /src/firmware/image/modules.py "$w/work/tree/$from" /src/firmware/image/modules.initrd >"$out/work/modules"
tool python3 /src/firmware/image/modules.py --fold "$w/work/tree/$from" "$w/work/initrd/lib/modules/$kernel" <"$out/work/modules"
tar -C "$tree/$from" --files-from="$out/work/modules" -c | tar -C "$initrd/lib/modules/$kernel" -x
tool sh -euc "cd $w/work/initrd; find lib -name '*.ko.xz' -print0 | xargs -0 -r -n 64 xz -d; chown -R 0:0 .; find . -exec touch -h -d @$SOURCE_DATE_EPOCH {} +
  find . -mindepth 1 -print | LC_ALL=C sort | cpio --quiet --reproducible -o -H newc | zstd -q -12 -T1 >$w/work/initrd.zst"

# --- the one signed file that boots: kernel, initrd and the hash of the root
printf '%s' "$cmdline" >"$out/work/cmdline"
# ukify has no name for the moment before the first phase of a start, in which /var is opened (our PID 1 announces none), and takes no
# key from a token without signing the kernel image too: it calls this instead. A token wants the certificate of the key.
mkdir -p "$out/work/measure"
{
  printf '#!/bin/sh\n'
  if [ -e "$keys/pcr.uri" ]; then
    # shellcheck disable=SC2016 # expanded when ukify calls it
    printf 'for word; do shift; case $word in --public-key=* | --private-key=*) ;; *) set -- "$@" "$word" ;; esac; done\n'
    printf 'set -- "$@" --certificate=/keys/pcr.crt'
    printf ' %q' "${pcr[@]}"
    printf '\n'
  fi
  printf 'exec /usr/lib/systemd/systemd-measure "$@" --phase=:\n'
} >"$out/work/measure/systemd-measure"
chmod 0755 "$out/work/measure/systemd-measure"
signing ukify build --linux="/w/root/$arch-$flavour/boot/vmlinuz" --initrd="$w/work/initrd.zst" --cmdline="@$w/work/cmdline" \
  --os-release="@$w/work/tree/usr/lib/os-release" --uname="$kernel" --stub="/w/root/$arch-$flavour/boot/linux$EFI.efi.stub" \
  --pcr-private-key=/keys/pcr.key --pcr-public-key=/keys/pcr.pub --pcr-banks=sha256 --tools="$w/work/measure" \
  --output="$w/work/uki.unsigned" >"$out/work/ukify.log" 2>&1 || { cat "$out/work/ukify.log" >&2; die 'ukify failed'; }
sign "$w/work/uki.unsigned" "$w/uki.efi"

# --- bundle
say "root $(size "$out/root"), verity $(size "$out/verity"), initrd $(size "$out/work/initrd.zst"), UKI $(size "$out/uki.efi") bytes"
signing /w/program/bundle/palabre-bundle pack --root "$w/root" --verity "$w/verity" --uki "$w/uki.efi" \
  --roothash "$roothash" "${signer[@]}" --arch "$arch" --flavour "$flavour" --version "$version" --display "$display" \
  --floor "$floor" --created "$SOURCE_DATE_EPOCH" ${release:+"$release"} -o "$w/palabre-$name.plbu"
say "bundle $(size "$out/palabre-$name.plbu") bytes"

# --- disk
if [ -n "$disk" ]; then
  sign "/w/root/$arch-$flavour/boot/systemd-boot$EFI.efi" "$w/work/boot.efi"
  # The certificate in the form in which firmware in setup mode takes it from systemd-boot: by itself in a virtual machine, by an
  # entry of its menu on a board (cards whose own programs others have signed would no longer start: a person decides).
  mkdir -p "$out/work/enroll"
  # shellcheck disable=SC2016 # expanded inside
  signing sh -euc 'mount -t tmpfs tmpfs /mnt; into=$1; shift
    SYSTEMD_RELAX_ESP_CHECKS=1 bootctl install --quiet --esp-path=/mnt --no-variables --random-seed=no --make-entry-directory=no \
      --secure-boot-auto-enroll=yes --certificate=/keys/secureboot.crt "$@"
    cp /mnt/loader/keys/auto/*.auth "$into/"' enroll "$w/work/enroll" "${secureboot[@]}" >&2 || die 'the certificate could not be put into the form that firmware takes'
  # The menu waits a second for a key. Longer is easier to meet, and each start is as much longer.
  printf 'timeout 1\neditor no\nauto-firmware no\nauto-entries yes\nsecure-boot-enroll if-safe\nconsole-mode keep\n' >"$out/work/loader.conf"
  boot_name=BOOT$(printf '%s' "$EFI" | tr '[:lower:]' '[:upper:]').EFI
  # 300 MiB: FAT32 below about 260 has too few clusters, and some firmware then does not see it.
  tool sh -euc "cd $w/work; rm -f esp.img; truncate -s 300M esp.img
    mkfs.vfat -F 32 -n PALABRE-ESP -i $(printf '%s' "$name" | sha256sum | cut -c1-8) --invariant esp.img >/dev/null
    touch -d @$SOURCE_DATE_EPOCH boot.efi loader.conf enroll/* ../uki.efi
    mmd -i esp.img ::EFI ::EFI/BOOT ::EFI/systemd ::EFI/Linux ::loader ::loader/keys ::loader/keys/auto
    mcopy -m -i esp.img boot.efi ::EFI/BOOT/$boot_name
    mcopy -m -i esp.img boot.efi ::EFI/systemd/systemd-boot$EFI.efi
    mcopy -m -i esp.img loader.conf ::loader/loader.conf
    mcopy -m -i esp.img enroll/PK.auth enroll/KEK.auth enroll/db.auth ::loader/keys/auto/
    mcopy -m -i esp.img ../uki.efi ::EFI/Linux/palabre_$version.efi"
  half() { printf '%s' "${roothash:$1:32}" | sed -E 's/^(.{8})(.{4})(.{4})(.{4})(.{12})$/\1-\2-\3-\4-\5/'; }
  image=$out/palabre-$name.img
  truncate -s $(((1 + 300 + 16 + slot + 1) * 1024 * 1024)) "$image"
  tool sfdisk --quiet "$w/palabre-$name.img" <<TABLE
label: gpt
label-id: $(uuid_of "$name")
start=1MiB, size=300MiB, type=c12a7328-f81f-11d2-ba4b-00a0c93ec93b, name=palabre-esp, uuid=$(uuid_of "$name esp")
size=16MiB, type=$verity_type, name=palabre_${version}_verity, uuid=$(half 32)
size=${slot}MiB, type=$root_type, name=palabre_$version, uuid=$(half 0)
TABLE
  put() { dd if="$1" of="$image" bs=1M seek="$2" conv=notrunc,sparse status=none; }
  put "$out/work/esp.img" 1
  put "$out/verity" 301
  put "$out/root" 317
  tool zstd -q -f -T0 -10 "$w/palabre-$name.img" -o "$w/palabre-$name.img.zst"
  say "disk $(size "$image.zst") bytes compressed, $(($(size "$image") / 1048576)) MiB on the disk"
fi
(cd "$out" && sha256sum root verity uki.efi work/uki.unsigned work/initrd.zst ./*.plbu ${disk:+./*.img.zst} sbom.cdx.json >hashes)
rm -rf -- "$out/work/tree" "$out/work/initrd" "$out/work/esp.img"
say "done: $out"

#!/bin/bash
# Makes the Debian root of one machine and flavour: packages, kernel and modules, nothing of ours yet.
# rootfs.sh ARCH FLAVOUR; the tree comes to $WORK/root/ARCH-FLAVOUR/tree, beside it boot/ (kernel, EFI stub, boot
# loader), packages (those whose files are in it) and made-on (the day of Debian's packages, in seconds). Kept until a list changes;
# `fw clean roots` gets the day's packages.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
arch=$1 flavour=$2
machine "$arch"
need_root image
case $flavour in
  core) packages=("$IMAGE/packages.core") modules=("$IMAGE/modules.core") removed=("$IMAGE/packages.removed") ;;
  room) packages=("$IMAGE/packages.core" "$IMAGE/packages.room") modules=("$IMAGE/modules.core" "$IMAGE/modules.room")
    removed=("$IMAGE/packages.removed" "$IMAGE/packages.removed.room") ;;
  *) die "--flavour takes core or room, not '$flavour'" ;;
esac
place=$WORK/root/$arch-$flavour
wanted=$(hash "${packages[@]}" "${modules[@]}" "${removed[@]}" "${BASH_SOURCE[0]}")
[ "$(cat "$place/made-of" 2>/dev/null)" = "$wanted" ] && exit 0

# The arm64 root's own installation scripts run under QEMU. F keeps the interpreter open, so that every root finds it.
if [ "$arch" = arm64 ] && [ "$(uname -m)" != aarch64 ] && ! grep -qs enabled /proc/sys/fs/binfmt_misc/*aarch64*; then
  [ -w /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc ||
    die 'arm64 programs cannot be run here (no binfmt_misc), and the arm64 root needs that'
  elf='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf '%s' ":palabre-aarch64:M::$elf:$mask:$TOOLS/usr/bin/qemu-aarch64:OCF" >/proc/sys/fs/binfmt_misc/register
fi

say "making the $flavour root for $arch"
rm -rf -- "$place"
mkdir -p "$place/debs"
date +%s >"$place/made-on"
options=()
while IFS= read -r line; do
  [ -n "$line" ] && options+=(--aptopt="$line")
done < <(apt_options)
sources trixie trixie-updates trixie-security >"$place/sources.list"
# Downloads the kernel and the boot loader of the target without installing them: no initramfs-tools, no hooks.
cat >"$place/download.sh" <<'HOOK'
#!/bin/sh
set -eu
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
cd "$2"
kernel=$(apt-cache depends "linux-image-$3:$3" | sed -n 's/.*Depends: \(linux-image-6[^: ]*\).*/\1/p' | head -n 1)
apt-get download -q "$kernel:$3" "systemd-boot-efi:$3"
HOOK
chmod +x "$place/download.sh"
w=/w/root/$arch-$flavour
tool mmdebstrap --variant=essential --architectures="$arch" --include="$(list "${packages[@]}" | paste -sd, -)" "${options[@]}" \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/info/*' --dpkgopt='path-exclude=/usr/share/bash-completion/*' \
  --dpkgopt='path-exclude=/usr/share/zsh/*' --dpkgopt='path-exclude=/usr/share/lintian/*' \
  --customize-hook="$w/download.sh \"\$1\" $w/debs $arch" \
  trixie "$w/tree" "$w/sources.list" >"$place/log" 2>&1 ||
  die "the root could not be made; the end of $place/log: $(tail -n 5 "$place/log")"

tree=$place/tree
# shellcheck disable=SC2016 # dpkg-query expands it
tool dpkg-query --admindir="$w/tree/var/lib/dpkg" -W \
  -f '${Package}\t${Version}\t${Architecture}\t${source:Package}\t${source:Version}\n' | sort >"$place/packages"

say 'unpacking kernel and boot loader'
mkdir -p "$place/kernel" "$place/boot"
for deb in "$place"/debs/*.deb; do
  tool dpkg-deb -f "/w/${deb#"$WORK"/}" Package Version Architecture Source | sed 's/^[^:]*: //' | paste -sd' ' - >>"$place/downloaded"
  tool dpkg-deb -x "/w/${deb#"$WORK"/}" "$w/kernel"
done
awk '{ s = NF > 3 ? $4 : $1; print $1 "\t" $2 "\t" $3 "\t" s "\t" $2 }' "$place/downloaded" >>"$place/packages"
release=$(basename -- "$place"/kernel/boot/vmlinuz-*)
release=${release#vmlinuz-}
printf '%s\n' "$release" >"$place/boot/release"
cp -- "$place/kernel/boot/vmlinuz-$release" "$place/boot/vmlinuz"
cp -- "$place/kernel/usr/lib/systemd/boot/efi/linux$EFI.efi.stub" "$place/kernel/usr/lib/systemd/boot/efi/systemd-boot$EFI.efi" "$place/boot/"

# The modules that are listed, and what they depend on; depmod then writes the tables of those alone.
all=$place/kernel/usr/lib/modules/$release
[ -e "$place/kernel/lib" ] || ln -s usr/lib "$place/kernel/lib"
tool depmod -b "$w/kernel" "$release"
into=$tree/usr/lib/modules/$release
mkdir -p "$into"
tool python3 /src/firmware/image/modules.py "$w/kernel/usr/lib/modules/$release" \
  "${modules[@]/#$SOURCE//src}" >"$place/modules"
printf '%s\n' modules.builtin modules.builtin.modinfo modules.order >>"$place/modules"
tar -C "$all" --files-from="$place/modules" -c | tar -C "$into" -x
tool depmod -b "$w/tree" "$release"

say 'removing what only served to make it'
mkdir -p "$tree/usr/share/palabre/licences"
for folder in "$tree"/usr/share/doc/*/ "$place"/kernel/usr/share/doc/*/; do
  name=$(basename -- "$folder")
  # A link to another package's text is followed when that package is there; both then have theirs.
  if [ -f "$folder/copyright" ]; then cp -L -- "$folder/copyright" "$tree/usr/share/palabre/licences/$name"; fi
done
while IFS= read -r name; do
  case $name in /*) rm -rf -- "$tree$name"; continue ;; esac
  for file in "$tree/var/lib/dpkg/info/$name.list" "$tree/var/lib/dpkg/info/$name:$arch.list"; do
    [ -e "$file" ] || continue
    while IFS= read -r path; do
      if [ -L "$tree$path" ] || [ -f "$tree$path" ]; then rm -f -- "$tree$path"; fi
    done <"$file"
  done
done < <(list "${removed[@]}")
# Nothing of these is left to have a fault, or a licence.
list "${removed[@]}" | awk -F'\t' 'NR == FNR { gone[$1]; next } !($1 in gone)' - "$place/packages" >"$place/packages.left"
mv -- "$place/packages.left" "$place/packages"
while IFS=$'\t' read -r name _; do
  [ -s "$tree/usr/share/palabre/licences/$name" ] || die "the text of the licence of $name is missing: its package is in the image"
done <"$place/packages"
(
  cd "$tree"
  rm -rf var/lib/{apt,dpkg,systemd,pam,ucf} var/{cache,log,tmp,backups,mail,opt,local,spool} \
    usr/share/{doc,man,info,locale,lintian,bug,bash-completion,zsh,debconf,perl5,i18n,pixmaps} \
    usr/lib/*/{gconv,perl-base} usr/lib/{apt,dpkg} usr/lib/systemd/catalog \
    etc/{apt,dpkg,cron.daily,cron.weekly,init.d,rc?.d,kernel,logrotate.d,skel} \
    etc/{machine-id,hostname,resolv.conf,.pwd.lock,passwd-,shadow-,group-,gshadow-,subuid,subgid,subuid-,subgid-} \
    boot home media mnt opt srv
)
find "$tree" -xdev -name __pycache__ -prune -exec rm -rf -- {} +
tool systemd-hwdb --root="$w/tree" --usr update
rm -rf -- "$tree/usr/lib/udev/hwdb.d" "$place/kernel" "$place/debs"
printf '%s\n' "$wanted" >"$place/made-of"
say "root ready: $(wc -l <"$place/packages") packages, $(du -sm "$tree" | cut -f1) MB, of which modules $(du -sm "$into" | cut -f1) MB"

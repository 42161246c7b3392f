#!/bin/bash
# Starts an image in QEMU with the tools root's emulator and firmware, the box's ports forwarded on loopback, its serial
# line on stdout. emulate.sh --arch A --disk FILE --vars FILE [--mem MB] [--page PORT] [--qmp SOCKET] [--rtp N] [--bind ADDRESS]
# FILEs are below the work folder and are made when absent, the disk as 4 GiB on top of --image FILE. Ends with the box.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root run
arch='' disk='' vars='' image='' mem=512 page=7880 qmp='' rtp=16 bind=127.0.0.1 more=()
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2 ;;
    --disk) disk=$2 ;;
    --vars) vars=$2 ;;
    --image) image=$2 ;;
    --mem) mem=$2 ;;
    --page) page=$2 ;;
    --qmp) qmp=$2 ;;
    --rtp) rtp=$2 ;;
    --bind) bind=$2 ;;
    --) shift; more=("$@"); break ;;
    *) die "emulate does not know '$1'" ;;
  esac
  shift 2
done
machine "$arch"
# Names as the tools root sees them.
seen() { printf '%s' "${1/#$WORK//w}"; }
case $arch in
  amd64) emulator=qemu-system-x86_64 code=/usr/share/OVMF/OVMF_CODE_4M.fd blank=usr/share/OVMF/OVMF_VARS_4M.fd
    options=(-machine q35 -cpu max -device i6300esb) ;;
  arm64) emulator=qemu-system-aarch64 code=/usr/share/AAVMF/AAVMF_CODE.no-secboot.fd blank=usr/share/AAVMF/AAVMF_VARS.fd
    # shellcheck disable=SC2054
    options=(-machine virt,gic-version=3 -cpu cortex-a76 -device i6300esb) ;;
esac
[ -e "$vars" ] || cp "$TOOLS/$blank" "$vars"
[ -e "$disk" ] || tool qemu-img create -q -f qcow2 -F raw -b "$(seen "$image")" "$(seen "$disk")" 4G
forward="hostfwd=tcp:$bind:$page-:80,hostfwd=udp:$bind:7880-:7880,hostfwd=tcp:$bind:5060-:5060,hostfwd=udp:$bind:5060-:5060"
for ((port = 16384; port < 16384 + rtp; port++)); do forward+=,hostfwd=udp:$bind:$port-:$port; done
if [ -n "$qmp" ]; then options+=(-qmp "unix:$(seen "$qmp"),server=on,wait=off"); fi
# TCG, two threads: the machines this is tested on have no other. A box on real hardware is several times faster.
tool "$emulator" "${options[@]}" -accel tcg,thread=multi -smp 2 -m "$mem" -display none -monitor none -serial stdio -no-user-config \
  -nodefaults -drive "if=pflash,format=raw,readonly=on,file=$code" -drive "if=pflash,format=raw,file=$(seen "$vars")" \
  -drive "if=none,id=disk,format=qcow2,cache=writeback,discard=unmap,file=$(seen "$disk")" \
  -device virtio-blk-pci,drive=disk,bootindex=0,serial=palabre \
  -netdev "user,id=net,$forward" -device virtio-net-pci,netdev=net,romfile= \
  -device virtio-rng-pci -device virtio-balloon-pci,id=balloon -device qemu-xhci,id=xhci -action watchdog=reset \
  -smbios type=1,manufacturer=Palabre,product=Emulated,serial=EMU0001,uuid=6d2f6f0e-2f0b-4c1c-9a55-0d8b6d0e0001 "${more[@]}"

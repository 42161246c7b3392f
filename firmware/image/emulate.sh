#!/bin/bash
# Starts an image in QEMU with the tools root's emulator and firmware, the box's ports forwarded on loopback, its serial
# line on stdout.
# emulate.sh --arch A --disk FILE --vars FILE [--mem MB] [--page PORT] [--plain PORT] [--qmp SOCKET] [--rtp N] [--bind ADDRESS]
# The box's https is at --page, what it answers to plain http at --plain when that is given. [--forward "tcp:22 udp:443"]: more ports.
# [--secure-boot on] [--tpm FOLDER] [--net none] [-- OPTIONS OF QEMU...]
# FILEs are below the work folder and are made when absent, the disk as 4 GiB on top of --image FILE. Ends with the box.
# Secure Boot: firmware that can enforce it, in setup mode when --vars is absent. TPM: its state is in FOLDER and is kept.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root run
arch='' disk='' vars='' image='' mem=512 page=7880 plain='' qmp='' rtp=16 bind=127.0.0.1 secure=off tpm='' net=user processors=2 forwards='' more=()
while [ $# -gt 0 ]; do
  case $1 in
    --arch) arch=$2 ;;
    --disk) disk=$2 ;;
    --vars) vars=$2 ;;
    --image) image=$2 ;;
    --mem) mem=$2 ;;
    --page) page=$2 ;;
    --plain) plain=$2 ;;
    --qmp) qmp=$2 ;;
    --rtp) rtp=$2 ;;
    --bind) bind=$2 ;;
    --secure-boot) secure=$2 ;;
    --tpm) tpm=$2 ;;
    --net) net=$2 ;;
    --forward) forwards=$2 ;;
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
chip='tpm-crb'
if [ "$arch" = arm64 ]; then chip='tpm-tis-device'; fi
if [ "$secure" = on ]; then
  case $arch in
    amd64)
      code=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd
      # Only code in system management mode may write the variables: else a system could end Secure Boot by itself.
      options+=(-machine smm=on -global "driver=cfi.pflash01,property=secure,value=on" -global ICH9-LPC.disable_s3=1)
      ;;
    arm64) code=/usr/share/AAVMF/AAVMF_CODE.secboot.fd ;;
  esac
fi
[ -e "$vars" ] || cp "$TOOLS/$blank" "$vars"
[ -e "$disk" ] || tool qemu-img create -q -f qcow2 -F raw -b "$(seen "$image")" "$(seen "$disk")" 4G
forward="hostfwd=tcp:$bind:$page-:443,hostfwd=udp:$bind:7880-:7880,hostfwd=tcp:$bind:5060-:5060,hostfwd=udp:$bind:5060-:5060"
if [ -n "$plain" ]; then forward+=,hostfwd=tcp:$bind:$plain-:80; fi
for ((port = 16384; port < 16384 + rtp; port++)); do forward+=,hostfwd=udp:$bind:$port-:$port; done
for also in $forwards; do forward+=,hostfwd=${also%:*}:$bind:${also#*:}-:${also#*:}; done
if [ -n "$qmp" ]; then options+=(-qmp "unix:$(seen "$qmp"),server=on,wait=off"); fi
if [ -n "$tpm" ]; then
  mkdir -p "$tpm"
  rm -f -- "$tpm/socket"
  # Ends with the emulator, which holds its only connection.
  tool swtpm socket --tpm2 --terminate --tpmstate "dir=$(seen "$tpm")" --ctrl "type=unixio,path=$(seen "$tpm")/socket" &
  options+=(-chardev "socket,id=tpm,path=$(seen "$tpm")/socket" -tpmdev "emulator,id=tpm,chardev=tpm" -device "$chip,tpmdev=tpm")
  for _ in {1..100}; do [ -S "$tpm/socket" ] && break; sleep 0.1; done
fi
nic=(-device "virtio-net-pci,netdev=net,romfile=")
if [ "$net" = none ]; then nic=(); fi
# TCG, two threads: the machines this is tested on have no other. A box on real hardware is several times faster.
tool "$emulator" "${options[@]}" -accel tcg,thread=multi -smp "$processors" -m "$mem" -display none -monitor none -serial stdio -no-user-config \
  -nodefaults -drive "if=pflash,format=raw,readonly=on,file=$code" -drive "if=pflash,format=raw,file=$(seen "$vars")" \
  -drive "if=none,id=disk,format=qcow2,cache=writeback,discard=unmap,file=$(seen "$disk")" \
  -device virtio-blk-pci,drive=disk,bootindex=0,serial=palabre \
  -netdev "user,id=net,$forward" "${nic[@]}" \
  -device virtio-rng-pci -device virtio-balloon-pci,id=balloon -device qemu-xhci,id=xhci -action watchdog=reset \
  -smbios type=1,manufacturer=Palabre,product=Emulated,serial=EMU0001,uuid=6d2f6f0e-2f0b-4c1c-9a55-0d8b6d0e0001 "${more[@]}"

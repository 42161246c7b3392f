#!/bin/bash
# Assembles a version once more from the same root tree, elsewhere and later: everything but signatures must be the same bytes.
# try_again.sh OPTION..., those of assemble.sh (--overlay among them) with which it was assembled first; after that, because its hashes are the measure.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
need_root test
arch=amd64 version=1
for ((word = 1; word < $#; word++)); do
  next=$((word + 1))
  case ${!word} in
    --arch) arch=${!next} ;;
    --version) version=${!next} ;;
  esac
done
first=$WORK/try/$arch-core-$version again=$WORK/try/again
unsigned=(root verity work/initrd.zst work/uki.unsigned sbom.cdx.json)
# Of the files, not of the list: signed versions of the first may have been assembled since.
hashes() { (cd "$1" && sha256sum "${unsigned[@]}"); }
measure=$(hashes "$first")
"$IMAGE/assemble.sh" "$@" --only-bundle --into again
found=$(hashes "$again")
paste -d' ' <(cut -d' ' -f1 <<<"$measure" | cut -c1-16) <(cut -c1-16 <<<"$found") <(awk '{ print $2 }' <<<"$found") |
  while read -r one other file; do say "$file: $one, again $other"; done
[ "$measure" = "$found" ] || die 'two assemblies of one root tree differ'
[ "$(wc -l <<<"$found")" = ${#unsigned[@]} ] || die 'not everything was compared'
rm -rf -- "$again"

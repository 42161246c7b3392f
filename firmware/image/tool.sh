#!/bin/bash
# tool.sh COMMAND...: a command of the tools root, the work folder at /w and the sources at /src.
set -euo pipefail
# shellcheck source=firmware/image/lib.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib.sh"
tool "$@"

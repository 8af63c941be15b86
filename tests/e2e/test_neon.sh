#!/bin/bash
# The NEON rung, cross-compiled and run in an emulator (Debian: gcc-aarch64-linux-gnu, qemu-user).
cd "$(dirname "$0")/../.." || exit 1
cc=aarch64-linux-gnu-gcc
for tool in $cc qemu-aarch64; do
    command -v $tool >/dev/null || { echo "ok 1 - neon # SKIP no $tool here"; echo 1..1; exit 0; }
done
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
sources=(tests/kern/check_neon.c src/base/dtype.c)
for f in src/kern/*.c; do case $f in *_avx2.c | *_avx512.c) ;; *) sources+=("$f") ;; esac; done
$cc -std=gnu17 -O2 -Wall -Wextra -Werror -ffp-contract=off -fno-math-errno -fno-strict-aliasing -D_GNU_SOURCE -Isrc -static \
    -o "$dir/check" "${sources[@]}" -lm -pthread || { echo "not ok 1 - the NEON rung compiles"; echo 1..1; exit 1; }
env -u ORIEL_CPU qemu-aarch64 "$dir/check"

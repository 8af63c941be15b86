# Shared by the scripts: where we are, and installing what is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
fail() { say "$0: $*"; exit 1; }

# need GROUP…: installs the missing packages of these groups of script/packages.
need() {
    command -v dpkg-query >/dev/null || fail "this is not Debian; install by hand what script/packages lists, then run: make"
    local group want missing=()
    for group in "$@"; do
        want=$(sed -n "s/^$group: //p" script/packages)
        [ -n "$want" ] || fail "script/packages has no group '$group'"
        local package
        for package in $want; do
            [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)" = installed ] || missing+=("$package")
        done
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    local sudo=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "these packages are missing and there is no sudo; as root: apt-get install ${missing[*]}"
        sudo=(sudo)
    fi
    say "installing ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { "${sudo[@]}" apt-get update -q && "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        fail "apt-get could not install them; the lines above say why"
    fi
    rm -f "$log"
}

# build PRESET: compiles quietly, shows the log only when it failed.
build() {
    local preset=$1 log
    shift
    log=$(mktemp)
    say "building build/$preset"
    if ! make -j"$(nproc)" PRESET="$preset" "$@" >"$log" 2>&1; then
        grep -vE '^  (CC|LD) ' "$log" | tail -n 40 >&2
        fail "the build failed; the lines above say why"
    fi
    rm -f "$log"
}

#!/usr/bin/env bash
# Sets up what a make target needs: system packages where they are missing, then
# .venv with VSFS installed (not linked: tests are to run what users get).
#   tools/setup.sh demo|test|lint|fuzz|crash|bench
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?demo, test, lint, fuzz, crash or bench}

say() { printf 'setup: %s\n' "$*"; }

has_python() { python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
has_venv() { python3 -c 'import venv, ensurepip' 2>/dev/null; }
has_fusermount() { command -v fusermount >/dev/null; }
# no `| grep -q`: it stops reading early, and with pipefail that fails now and then
has_libfuse() { [[ $(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null) == *libfuse.so.2* ]]; }

missing_packages() {
    has_venv || echo python3-venv
    has_fusermount || echo fuse3
    if ! has_libfuse; then
        # Debian 13 and Ubuntu 24.04 renamed it when time_t became 64 bits wide
        if [ -n "$(apt-cache show --no-all-versions libfuse2t64 2>/dev/null)" ]; then
            echo libfuse2t64
        else
            echo libfuse2
        fi
    fi
    [ "$target" != bench ] || missing_for_bench
}

# what VSFS is compared with, and what llfuse is built from
missing_for_bench() {
    PATH=$PATH:/sbin:/usr/sbin
    command -v fuse2fs >/dev/null || echo fuse2fs
    command -v mke2fs >/dev/null || echo e2fsprogs
    command -v git >/dev/null || echo git
    command -v pkg-config >/dev/null || echo pkg-config
    command -v gcc >/dev/null || echo gcc
    pkg-config --exists fuse 2>/dev/null || echo libfuse-dev
    python3 -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' \
        2>/dev/null || echo python3-dev
}

install_packages() {
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { say "please install, as root: apt-get install $*"; return 1; }
        as_root=(sudo)
    fi
    say "installing with apt-get: $*"
    # not every failure matters: what is still missing is checked afterwards
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1 || true
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>.apt-errors || {
        cat .apt-errors >&2
    }
    rm -f .apt-errors
}

if ! has_python; then
    say "VSFS needs Python 3.11 or newer, and python3 is $(python3 --version 2>&1 || echo missing)"
    exit 1
fi

if command -v apt-get >/dev/null; then
    packages=$(missing_packages)
    if [ -n "$packages" ]; then
        # an apt cache that was never filled knows no libfuse2t64
        [ -n "$(apt-cache show --no-all-versions fuse3 2>/dev/null)" ] ||
            [ "$(id -u)" != 0 ] || apt-get update -qq >/dev/null 2>&1 || true
        # shellcheck disable=SC2046
        install_packages $(missing_packages) || true
    fi
fi
if ! has_venv; then
    say "Python's venv module is missing; install python3-venv (or what your system calls it)"
    exit 1
fi
if ! has_fusermount || ! has_libfuse; then
    say "FUSE is missing: mounting needs libfuse 2 and fusermount (packages libfuse2 and fuse3)"
    [ "$target" = demo ] || exit 1
fi

if [ ! -x .venv/bin/python ]; then
    say "making a virtual environment in .venv"
    python3 -m venv .venv
fi
extras=
[ "$target" = test ] && extras='[test]'
[ "$target" = fuzz ] && extras='[test]'
[ "$target" = crash ] && extras='[test]'
[ "$target" = lint ] && extras='[test,lint]' # mypy reads the tests' libraries, too
say "installing vsfs into .venv"
rm -rf build
install() { # pip's warnings matter only when it fails
    .venv/bin/pip install --quiet --disable-pip-version-check "$@" 2>.venv/pip-errors || {
        cat .venv/pip-errors >&2
        return 1
    }
}
install "setuptools>=68" wheel
install --no-build-isolation ".$extras"
if [ "$target" = fuzz ]; then
    # there are wheels for x86-64 Linux only; without it the fuzzer says what is missing
    install 'atheris>=2.3' 2>/dev/null || say "atheris could not be installed"
fi
if [ "$target" = bench ]; then
    install --no-build-isolation 'llfuse>=1.5' 2>/dev/null ||
        say "llfuse could not be built: only fusepy is measured"
fi
rm -rf build ./*.egg-info

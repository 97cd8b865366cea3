#!/usr/bin/env bash
# The main job on real files: format, mount, use, unmount, mount again, look inside.
# Run it with `make demo`, which sets up what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PWD/.venv/bin:$PATH

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[36m' off=$'\e[0m'; else bold='' dim='' off=''; fi

tell() { printf '\n%s# %s%s\n' "$dim" "$*" "$off"; }
run() { # show a command as one would type it, then do it
    printf '%s$ %s%s\n' "$bold" "$*" "$off"
    eval "$*"
}

by_python() {
    tell "$1: the same story through the Python API, which needs no FUSE"
    exec python -m vsfs_tools.demo
}

[ -e /dev/fuse ] || by_python "There is no /dev/fuse here, so nothing can be mounted"

work=$PWD/.demo
is_mounted() { grep -qs " $work/mnt fuse.vsfs " /proc/mounts; }
clean_up() { ! is_mounted || fusermount -u "$work/mnt" || true; }
trap clean_up EXIT
clean_up
rm -rf "$work"
mkdir "$work"
cd "$work"

tell "Format: 64 blocks of 4 KiB. Each region of the disk is where OSTEP draws it"
run mkfs.vsfs disk.img

tell "Mount it. From here on it is a filesystem like any other"
run mkdir mnt
if ! run mount.vsfs disk.img mnt; then
    cd ..
    by_python "FUSE refuses to mount here"
fi
run "mount | grep vsfs"
run ls -lid mnt
run df -h mnt
run df -i mnt

tell "Use it: directories, files, links"
run mkdir mnt/docs
run cp ../LICENSE ../README.md mnt/docs
run "head -n 3 mnt/docs/LICENSE | tee mnt/head.txt"
run cat mnt/head.txt
run ln mnt/docs/LICENSE mnt/license
run ln -s docs/README.md mnt/readme
run mv mnt/head.txt mnt/docs/first-lines.txt
run "seq 1 20000 > mnt/numbers.txt    # more than 12 blocks: needs the single indirect block"
run "echo gone soon > mnt/scratch; rm mnt/scratch"
run ls -li mnt mnt/docs
run stat mnt/numbers.txt
run df mnt
run df -i mnt

tell "Unmount, mount again: everything is still there"
run "(cd mnt; find . -type f | sort | xargs sha256sum) > before"
run umount mnt
run ls mnt
run mount.vsfs disk.img mnt
run "(cd mnt; sha256sum --check ../before)"
run readlink mnt/readme
run umount mnt

tell "Look inside: every structure on the disk"
run vsfs-inspect disk.img

tell "Break it: write a zero where the data bitmap begins, and let fsck.vsfs explain"
run "printf '\\0' | dd of=disk.img bs=1 seek=8192 conv=notrunc status=none"
run "fsck.vsfs -v -y disk.img || true"
run fsck.vsfs -n disk.img

tell "Try more: vsfs-inspect $work/disk.img inode /numbers.txt"

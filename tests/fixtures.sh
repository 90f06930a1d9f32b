#!/bin/bash
# Makes what the integration tests need from outside of the emulated host, which has no network: the image of a Debian root
# file system. Kept in the cache, made again when this file changes. Prints the image's path.
set -eu
cache=${HULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hull}
key=$(sha256sum "$0" | cut -c1-16)
image=$cache/fixtures/debian-$key.ext4

mkdir -p "$cache/fixtures"
exec 9>"$cache/fixtures/lock"
flock 9
if [ ! -f "$image" ]; then
	work=$(mktemp -d "$cache/fixtures/work.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	echo "fixtures: making a Debian root file system (about a minute)" >&2
	# python3 and its own tests: they exercise a file system and a process environment widely.
	# systemd: a first process that makes the most of what a container is given.
	mmdebstrap --quiet --variant=minbase --include=python3,libpython3.11-testsuite,systemd bookworm "$work/root" >&2
	# A real package for dpkg and apt inside, with no network there.
	(cd "$work" && apt-get download -q hello >&2 && mkdir -p root/packages && mv ./hello_*.deb root/packages/hello.deb)
	rm -rf "$work/root/var/cache/apt/archives"/*.deb "$work/root/var/lib/apt/lists"/*
	truncate -s 1G "$work/image"
	mke2fs -q -t ext4 -d "$work/root" -E root_owner=0:0 -m 0 "$work/image" >&2
	mv "$work/image" "$image"
fi
echo "$image"

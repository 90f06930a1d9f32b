#!/bin/bash
# Makes what the integration tests need from outside of the emulated host, which has no network: images of Debian root file
# systems. Kept in the cache, made again when this file changes. Prints the image's path.
#
#   tests/fixtures.sh [base|workloads]
set -eu
cache=${HULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hull}
key=$(sha256sum "$0" | cut -c1-16)
name=${1:-base}
image=$cache/fixtures/$name-$key.ext4

case $name in
base)
	# python3 and its own tests: they exercise a file system and a process environment widely.
	# systemd: a first process that makes the most of what a container is given.
	packages=python3,libpython3.11-testsuite,systemd
	size=1G
	;;
workloads)
	# What people run: a database, a web server, a compiler, version control.
	packages=postgresql,nginx-light,curl,sqlite3,git,gcc,libc6-dev,make
	size=2G
	;;
*)
	echo "usage: tests/fixtures.sh [base|workloads]" >&2
	exit 2
	;;
esac

mkdir -p "$cache/fixtures"
exec 9>"$cache/fixtures/lock"
flock 9
if [ ! -f "$image" ]; then
	work=$(mktemp -d "$cache/fixtures/work.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	echo "fixtures: making a Debian root file system ($name, about a minute)" >&2
	mmdebstrap --quiet --variant=minbase "--include=$packages" bookworm "$work/root" >&2
	# A real package for dpkg and apt inside, with no network there.
	(cd "$work" && apt-get download -q hello >&2 && mkdir -p root/packages && mv ./hello_*.deb root/packages/hello.deb)
	rm -rf "$work/root/var/cache/apt/archives"/*.deb "$work/root/var/lib/apt/lists"/*
	truncate -s "$size" "$work/image"
	mke2fs -q -t ext4 -d "$work/root" -E root_owner=0:0 -m 0 "$work/image" >&2
	mv "$work/image" "$image"
fi
echo "$image"

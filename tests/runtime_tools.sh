#!/bin/bash
# Builds the validation programs of opencontainers/runtime-tools, which tests/integration/runtime_tools.sh runs, with Debian's Go.
# Kept in the cache, made again when this file changes. Prints the directory they are in.
#
# Debian's package golang-github-opencontainers-runtime-tools-dev has the libraries only: neither validation/ nor
# cmd/runtimetest, and the TAP library that they need (mndrix/tap-go) is in no package. So the module comes from Go's module
# proxy, in the newest version that Debian's Go 1.19 compiles (later ones need 1.21; their validation/ is the same), checked
# against the sum below and, for what it depends on, against its own go.sum.
set -eu
module=github.com/opencontainers/runtime-tools@v0.9.1-0.20230914150019-408c51e934dc
sum=h1:d2hUh5O6MRBvStV55MQ8we08t42zSTqBbscoQccWmMc=

cache=${HULL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/hull}
programs=$cache/fixtures/runtime-tools-$(sha256sum "$0" | cut -c1-16)
go=/usr/bin/go

mkdir -p "$cache/fixtures"
exec 9>"$cache/fixtures/runtime-tools.lock"
flock 9
if [ ! -d "$programs" ]; then
	work=$(mktemp -d "$cache/fixtures/work.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	echo "runtime_tools: building the validation programs of runtime-tools (about a minute)" >&2
	export GOPATH=$work/go GOCACHE=$work/cache GOFLAGS="-modcacherw -buildvcs=false" GOTOOLCHAIN=local CGO_ENABLED=0
	unset GOROOT
	answer=$("$go" mod download -json "$module") || {
		echo "runtime_tools: $module: $(jq -r '.Error // "it cannot be downloaded"' <<<"$answer")" >&2
		exit 1
	}
	[ "$(jq -r .Sum <<<"$answer")" = "$sum" ] || {
		echo "runtime_tools: $module has not the sum $sum" >&2
		exit 1
	}
	# The module lists its dependencies as vendored, but a module's archive leaves them out.
	cp -r "$(jq -r .Dir <<<"$answer")" "$work/source"
	rm -rf "$work/source/vendor"
	mkdir "$work/programs"
	(cd "$work/source" && "$go" build -trimpath -ldflags '-s -w' -o "$work/programs/" ./validation/... ./cmd/runtimetest) >&2
	mv "$work/programs" "$programs"
fi
echo "$programs"

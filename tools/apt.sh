# shellcheck shell=bash
# For scripts that need programs of the system, which source it after setting root.

# packages PACKAGE...: apt-get install, of one script at a time.
packages() (
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	mkdir -p "$root/build"
	exec 9>"$root/build/apt.lock"
	flock 9
	$sudo apt-get update -qq
	$sudo apt-get install -y -qq --no-install-recommends "$@" >"$root/build/apt.log"
)

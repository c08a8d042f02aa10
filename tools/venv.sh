# shellcheck shell=bash
# For scripts of tools/NAME, which source it: the folders they use, Python and Node.
#
#   root    of the repository
#   here    the script's own folder
#   work    build/NAME, which is made
#   python  of the virtual environment in it; venv makes that

here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
root=$(cd "$here/../.." && pwd)
work=$root/build/$(basename "$here")
python=$work/venv/bin/python
mkdir -p "$work"

# install ARG...: pip install, in the virtual environment.
install() { "$python" -m pip install --quiet --disable-pip-version-check "$@"; }

# venv [PYTHON [COMMAND...]]: the packages that requirements.txt pins, installed by
# python3 unless another is named, and the command after them. Does nothing when
# that is done.
venv() {
	cmp -s "$here/requirements.txt" "$work/installed.txt" && return
	rm -rf "$work/venv"
	"${1:-python3}" -m venv "$work/venv"
	install -r "$here/requirements.txt"
	"${@:2}"
	cp "$here/requirements.txt" "$work/installed.txt" # says that all is here
}

# node_modules DIR [FROM]: in DIR, the Node modules that the lock file in FROM, or
# here, pins. Does nothing when that is done.
node_modules() {
	local from=${2:-$here}
	cmp -s "$from/package-lock.json" "$1/installed.json" && return
	mkdir -p "$1"
	cp "$from/package.json" "$from/package-lock.json" "$1"
	npm ci --prefix "$1" --ignore-scripts --silent
	cp "$from/package-lock.json" "$1/installed.json"
}

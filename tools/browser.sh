# Sourced by the scripts that look at pages, after venv.sh: $chromium is the browser, and browser_modules DIR puts the Node modules that drive
# and judge it into DIR: those of tools/reportcheck's lock file.
if ! chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome); then
	apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >"$work/apt.log"
	chromium=$(command -v chromium)
fi

browser_modules() {
	local from=$root/tools/reportcheck
	if ! cmp -s "$from/package-lock.json" "$1/package-lock.json"; then
		mkdir -p "$1"
		cp "$from/package.json" "$from/package-lock.json" "$1"
		npm ci --prefix "$1" --ignore-scripts --silent
	fi
}

# Sourced by the scripts that look at pages, after venv.sh: $chromium is the browser, and browser_modules DIR puts the Node modules that drive
# and judge it into DIR: those of tools/reportcheck's lock file.
if ! chromium=$(command -v chromium || command -v chromium-browser || command -v google-chrome); then
	source "$root/tools/apt.sh"
	packages chromium fonts-dejavu-core
	chromium=$(command -v chromium)
fi

browser_modules() { node_modules "$1" "$root/tools/reportcheck"; }

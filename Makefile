# make demo: the main job on an embedded default. make test: everything CI runs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
SEED ?= 7
TOKENS ?= 200

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

build: ## the command, as bin/ossify
	go build -o bin/ossify ./cmd/ossify

install: ## the command, into Go's folder for programs (go env GOBIN, else GOPATH/bin)
	go install ./cmd/ossify

ort-library: ## operators for ONNX Runtime, as bin/libossify_ort.so
	CGO_ENABLED=1 go build -tags ortlib -buildmode=c-shared -o bin/libossify_ort.so ./cmd/ossify-ort

demo: deps build ## synthesise a small model, run it, compare it with PyTorch's own values
	bin/ossify demo --html build/demo.html

serve-demo: build ## serve the small trained model that comes with ossify, verified, at http://127.0.0.1:8080, and open its page
	@test -e build/serve-demo/config.json || bin/ossify synth --preset trained build/serve-demo
	@bin/ossify verify build/serve-demo --precision bf16 --length 96 --json >build/serve-demo.json
	@echo "curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\":\"trained\",\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"What is 3 + 4?\"}]}'"
	bin/ossify serve build/serve-demo --name trained --verified build/serve-demo.json --open

pagecheck: ## the server's page in headless Chromium; screenshots in build/pagecheck/pictures
	tools/pagecheck/run.sh

deploycheck: ## what deploy/ and export --for triton hold, judged by schemas and linters (PyPI; root)
	tools/deploycheck/run.sh

clients: ## official clients of OpenAI's API against our server (PyPI, npm, Go modules)
	tools/clients/run.sh

deps: ## install ONNX Runtime's library into build/deps
	@tools/deps/install.sh

test: check platforms unit race arm64 generated differential ## everything CI runs

check: ## format, modules, vet, static analysis
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'gofmt would change these files'; exit 1; }
	go mod tidy -diff
	go vet ./...
	$(STATICCHECK) ./...

# GOOS/GOARCH. vet compiles all that is imported and reads the tests too; what
# a linker alone sees shows in the command.
PLATFORMS := linux/amd64 linux/arm64 linux/386 linux/arm darwin/arm64 windows/amd64

platforms: ## build and vet for other systems and processors, without cgo, and without Beam, which takes minutes for each
	@set -e; for p in $(PLATFORMS); do echo "GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 go vet, build"; \
		export GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0; \
		go vet -tags nobeam $$(go list ./... | grep -v /pipeline/beam); go build -tags nobeam -o /dev/null ./cmd/ossify; done

unit: deps ## every Go test, the comparisons with PyTorch's goldens among them
	go test -timeout 30m ./...

race: ## the packages that start goroutines, under the race detector
	go test -timeout 30m -race -short ./engine
	go test -timeout 30m -race ./batch ./batch/store ./pipeline ./weight ./checkpoint ./generate ./gptoss ./openai ./oracle ./pull ./server ./server/mcp ./synth ./internal/fileset ./internal/mapped
	go test -timeout 30m -race ./convert -mutations 4
	go test -timeout 30m -race -run 'Bandwidth|Copies|NothingIsLeft|Load' ./kernel ./onnx ./onnx/ort
	go test -timeout 30m -race -tags nobeam -run 'Signals|Pipe|Tokenize|TraceOutput' ./cmd/ossify

arm64: ## build for arm64, run the kernels there (under qemu-user, installed with apt-get if missing)
	tools/arm64/run.sh

generated: ## generated files are what their generators make
	go -C tokenizer/gen test .
	go generate ./...
	git diff --exit-code -- '*.go' '*.bin' '*.s'

differential: ## short live comparisons with other people's programs (npm, PyPI)
	go run ./tools/fuzz -n 5000
	tools/harmonydiff/run.sh
	tools/onnxcheck/run.sh
	tools/ortcheck/run.sh
	tools/packcheck/run.sh
	tools/reportcheck/run.sh
	tools/pagecheck/run.sh

module: ## rename the module, for a repository with an address: make module MODULE=example.org/me/ossify
	@test -n "$(MODULE)" || { echo 'want MODULE=example.org/me/ossify'; exit 2; }
	old=$$(go list -m); git grep -lE "[\"[]$$old/" -- '*.go' | xargs sed -i -E "s#([\"[])$$old/#\1$(MODULE)/#g"; \
	git ls-files go.mod '*/go.mod' | xargs sed -i -E "s#(^|[[:space:]])$$old(/|[[:space:]]|\$$)#\1$(MODULE)\2#"
	gofmt -w .

reference: build ## run the PyTorch reference live: make reference SEED=7 TOKENS=200 (downloads PyTorch)
	tools/reference/run.sh $(SEED) $(TOKENS)

containers: ## convert what Orbax, Flax and PyTorch write live, and compare: tiny and small (PyPI; PRESETS=tiny for one)
	tools/containers/run.sh $(PRESETS)

parity: ## a checkpoint at full depth in PyTorch, engine and ONNX Runtime, one report: make parity CKPT=DIR [PROMPT=... | CONVERSATION=FILE] [HTML=FILE] (an hour for 20b, resumed if killed)
	@test -n "$(CKPT)" || { echo 'want CKPT=DIR, a checkpoint in the original/ layout'; exit 2; }
	@PROMPT='$(subst ','\'',$(PROMPT))' CONVERSATION='$(CONVERSATION)' PRECISIONS='$(PRECISIONS)' ROWS='$(ROWS)' STATE='$(STATE)' HTML='$(HTML)' tools/reference/parity.sh '$(CKPT)'

transformers: ## compare with PyPI's transformers: logits, keys of config.json (downloads PyTorch)
	tools/transformers/run.sh

peers-speed: ## time ossify beside llama.cpp and ik_llama.cpp, built from source, on a synthetic 20b (hours; 45 GB of disk)
	tools/speed/run.sh

.PHONY: help build install ort-library demo serve-demo pagecheck deploycheck clients deps test check platforms unit race arm64 generated differential module reference parity containers transformers peers-speed

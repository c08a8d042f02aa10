# make demo: the main job on an embedded default. make test: before each commit;
# make test FULL=1: everything CI runs.
SHELL := /bin/bash
.DEFAULT_GOAL := help

STATICCHECK := go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
SEED ?= 7
TOKENS ?= 200

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

PROGRAMS := ./cmd/ossify ./cmd/ossify-beam

build: ## the programs, as bin/ossify and bin/ossify-beam
	go build -o bin/ $(PROGRAMS)

install: ## the programs, into Go's folder for programs (go env GOBIN, else GOPATH/bin)
	go install $(PROGRAMS)

bin/ossify:
	go build -o $@ ./cmd/ossify

ort-library: ## operators for ONNX Runtime, as bin/libossify_ort.so
	CGO_ENABLED=1 go build -tags ortlib -buildmode=c-shared -o bin/libossify_ort.so ./cmd/ossify-ort

demo: deps bin/ossify ## synthesise a small model, run it, compare it with PyTorch's own values
	bin/ossify demo --html build/demo.html

serve-demo: bin/ossify ## serve the small trained model that comes with ossify, verified, at http://127.0.0.1:8080, and open its page
	@rm -rf build/serve-demo && bin/ossify synth --preset trained build/serve-demo
	@bin/ossify verify build/serve-demo --precision bf16 --length 96 --json >build/serve-demo.json
	@echo "curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' -d '{\"model\":\"trained\",\"temperature\":0,\"messages\":[{\"role\":\"user\",\"content\":\"What is 3 + 4?\"}]}'"
	bin/ossify serve build/serve-demo --name trained --verified build/serve-demo.json --open

deploycheck: ## what deploy/ and export --for triton hold, judged by schemas and linters (PyPI; root)
	tools/deploycheck/run.sh

clients: ## official clients of OpenAI's API against our server (PyPI, npm, Go modules)
	tools/clients/run.sh

deps: ## install ONNX Runtime's library into build/deps
	@tools/deps/install.sh

# make test is what a change passes before it is committed, in about two minutes:
# tests are short, which leaves out what is long or repeats, and take a processor
# each. With FULL=1 it is everything, and what CI runs.
FULL ?=
# Tests of seconds each, or with a program to build, which a short run leaves out.
LONG := TestBeside|TestEdgeRows|TestEngineAgainstPyTorchElsewhere|TestGenerateONNX|TestServeSignals|TestLongDownload|TestTrainedAgainstPyTorch|TestTrainedTalks|TestExport120b|TestHandOver|TestBatchOnPrismIsInterrupted|TestPeakMemory|TestWithoutAVX2|TestVerifyHuggingFace|TestVerifyOfAnotherCheckpoint|TestVerifyHTMLOfFailure|TestFaults|TestCheckWithGolden|TestCheckByLogits|TestSharedFaults|TestVerifyKernels|TestSharedEdits|TestReferenceIsJudged|TestSmallSigmoids|TestScratchIsLargeEnough|TestHostileSchemas|TestTrainedPassesTheExamination
SHORT := $(if $(FULL),,-short -cpu 1 -p $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1))) -skip '^($(LONG))$$')
STEPS := check $(if $(FULL),platforms) unit race generated $(if $(FULL),,harmonydiff fuzz)

# What the last steps need from package registries is fetched meanwhile; a step
# that finds something missing fetches it itself. Those steps wait, or use one
# processor, for most of their time, so three of them run at once.
test: ## check, unit, race, generated, and short comparisons; with FULL=1 everything CI runs
	@set -e; step() { SECONDS=0; $(MAKE) --no-print-directory "$$@" && echo "$$*: $$SECONDS s"; }; \
	$(if $(FULL),mkdir -p build; $(MAKE) fetch >build/fetch.log 2>&1 & fetching=$$!; trap 'kill $$fetching 2>/dev/null || true' EXIT;) \
	for s in $(STEPS); do step $$s; done; \
	$(if $(FULL),wait $$fetching || cat build/fetch.log; step $(if $(filter output-sync,$(.FEATURES)),-j3 --output-sync=target) arm64 differential)

check: ## format, modules, vet, static analysis
	@test -z "$$(gofmt -l .)" || { gofmt -l .; echo 'gofmt would change these files'; exit 1; }
	go mod tidy -diff
	go vet ./...
	$(STATICCHECK) ./...

# GOOS/GOARCH. vet compiles all that is imported and reads the tests too; what
# a linker alone sees shows in the command.
PLATFORMS := linux/amd64 linux/arm64 linux/386 linux/arm darwin/arm64 windows/amd64

# Not optimised, which takes a third less; of the first two, much is compiled for
# other steps as they are.
QUICK = -gcflags='all=-N -l -dwarf=false' -ldflags='-s -w'

platforms: ## build and vet for other systems and processors, without cgo, and without Beam, which takes minutes for each
	@set -e; for p in $(PLATFORMS); do echo "GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0 go vet, build"; \
		export GOOS=$${p%/*} GOARCH=$${p#*/} CGO_ENABLED=0; \
		quick() { case $$p in linux/amd64 | linux/arm64) go "$$@" ;; *) go "$$1" $(QUICK) "$${@:2}" ;; esac; }; \
		quick vet $$(go list ./... | grep -v -e /pipeline/beam -e /cmd/ossify-beam); quick build -o /dev/null ./cmd/ossify; done

# Without the part of go vet that go test repeats: check runs all of it. The
# longest come first, so that none of them is left to run alone.
unit: deps ## every Go test, the comparisons with PyTorch's goldens among them
	go test $(SHORT) -timeout 30m -vet=off ./cmd/internal/cli ./verify ./verify/onnx ./kernel ./convert ./...

# -short: fewer of what is alike for the race detector, which sees goroutines. The
# engine's workers wait for each other, and have the processors to themselves.
RACE := go test -timeout 30m -vet=off -race -short
race: ## the packages that compute in parallel under the race detector; with FULL=1 all that start goroutines
	$(RACE) ./engine
	$(RACE) ./gptoss ./oracle ./checkpoint
ifneq ($(FULL),)
	$(RACE) ./server ./openai ./generate ./batch ./batch/store ./pipeline ./weight ./convert ./pull ./server/mcp ./synth ./internal/fileset ./internal/mapped
	$(RACE) -run 'Bandwidth|Copies|NothingIsLeft|Load' ./kernel ./onnx ./onnx/ort
	$(RACE) -run 'Signals|Pipe|Tokenize|TraceOutput' ./cmd/internal/cli
endif

arm64: ## build for arm64, run the kernels there (under qemu-user, installed with apt-get if missing)
	tools/arm64/run.sh

generated: ## generated files are what their generators make
	go -C tokenizer/gen test .
	go generate ./...
	git diff --exit-code -- '*.go' '*.bin' '*.s'

LIVE := onnxcheck ortcheck packcheck pagecheck reportcheck harmonydiff
differential: $(LIVE) fuzz ## short live comparisons with other people's programs (npm, PyPI)

$(LIVE): bin/ossify
	tools/$@/run.sh
pagecheck: ## the server's page in headless Chromium; screenshots in build/pagecheck/pictures
ortcheck: onnxcheck # whose examples and packages it takes

fuzz:
	go run ./tools/fuzz -n 5000

fetch:
	@set -e; for tool in arm64 onnxcheck packcheck reportcheck pagecheck harmonydiff; do tools/$$tool/run.sh fetch; done

module: ## rename the module, for a repository with an address: make module MODULE=example.org/me/ossify
	@test -n "$(MODULE)" || { echo 'want MODULE=example.org/me/ossify'; exit 2; }
	old=$$(go list -m); git grep -lE "[\"[]$$old/" -- '*.go' | xargs sed -i -E "s#([\"[])$$old/#\1$(MODULE)/#g"; \
	git ls-files go.mod '*/go.mod' | xargs sed -i -E "s#(^|[[:space:]])$$old(/|[[:space:]]|\$$)#\1$(MODULE)\2#"
	gofmt -w .

reference: bin/ossify ## run the PyTorch reference live: make reference SEED=7 TOKENS=200 (downloads PyTorch)
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

.PHONY: help build bin/ossify install ort-library demo serve-demo deploycheck clients deps test check platforms unit race arm64 generated differential $(LIVE) fuzz fetch module reference parity containers transformers peers-speed

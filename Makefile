# Image Builder. `make image` and `make test` set up what they need.

GO        ?= go
BIN       := bin/image-builder
OUT       ?= out
SPEC      ?= examples/quickstart.yaml
TESTTOOLS := .cache/tools

export CGO_ENABLED := 0

.PHONY: build image check test bench fmt clean

build: ## the binary, static and reproducible
	$(GO) build -trimpath -ldflags '-s -w -buildid=' -o $(BIN) ./cmd/image-builder

image: build ## a real node image from examples/quickstart.yaml
	$(BIN) build -f $(SPEC) -o $(OUT)

check: ## format, vet, lint and unit tests; under a minute
	@test -z "$$(gofmt -l cmd internal)" || { echo "not formatted:"; gofmt -l cmd internal; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) test -short ./...

test: ## every test: set-up, checks, an image, its boot proof
	./test/run

clean:
	rm -rf bin $(OUT)

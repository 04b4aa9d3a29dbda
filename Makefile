# Each target is a line or two; what they call can also be run by hand.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run test procs bench lint gen tools build prompts docs clean

GOLANGCI_LINT := v2.15.0
DAEMONS := gateway sessiond mediad recordingd ivrd
TEST_PROGRAMS := redis-server:redis-server sipp:sip-tester baresip:baresip-core sox:sox postgres:postgresql

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18

run: prompts ## everything in one process, with a demo menu to call
	@.ci/go
	@.ci/need flite:flite || echo "Going on without a voice: the menu plays melodies instead."
	@go run ./allinone/cmd/callmesh dev

test: ## every test, with the race detector; installs what it needs
	@.ci/go && .ci/need $(TEST_PROGRAMS)
	@go run ./tests/cmd/suite -race

procs: ## the five daemons as processes on a real redis-server, until Ctrl-C
	@.ci/go && .ci/need redis-server:redis-server
	@go run ./tests/cmd/procs

bench: ## the benchmarks of docs/benchmarks.md
	@.ci/go && .ci/need $(TEST_PROGRAMS)
	@go run ./tests/cmd/bench

lint: .bin/golangci-lint ## golangci-lint over all modules
	@.bin/golangci-lint run $$(go list -m -f '{{.Dir}}/...')

gen: .bin/buf ## generated code and OpenAPI from the protos
	@for template in buf.gen*.yaml; do .bin/buf generate --template $$template; done

tools: .bin/buf .bin/golangci-lint ## buf, its plugins and golangci-lint, into .bin

.bin/buf: tools/go.mod tools/go.sum
	@.ci/go
	GOBIN=$(CURDIR)/.bin GOWORK=off go -C tools install tool
	@touch $@

.bin/golangci-lint: Makefile
	@.ci/go
	@if [ "$$($@ version --short 2>/dev/null)" != "$(GOLANGCI_LINT:v%=%)" ]; then set -x; \
		GOBIN=$(CURDIR)/.bin go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT); fi
	@touch $@

build: ## the five daemons and the callmesh command, into .bin
	@.ci/go
	CGO_ENABLED=0 go build -trimpath -o .bin/ $(foreach d,$(DAEMONS),./$(d)/cmd/$(d)) ./allinone/cmd/callmesh

prompts: ## a voice for the demo menu, which plays melodies without one
	@command -v espeak-ng >/dev/null || .ci/need flite:flite || echo "the demo menu will play melodies in place of speech"

docs: ## check that paths, links and make targets named in *.md exist
	@go run ./tests/cmd/docscheck

clean: ## remove what the other targets made
	rm -rf .bin .assets .logs data

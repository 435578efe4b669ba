# `make` lists what there is.
CARGO ?= cargo
PROFILE ?= release
# Tests start daemons and wait for them; more at a time would only starve them.
TEST_THREADS ?= 4

.DEFAULT_GOAL := help
.PHONY: help setup build test demo bench lint semver fmt tools clean rust

help: ## this list
	@sed -n 's/^\([a-z]*\):[^#]*## /\1	/p' $(MAKEFILE_LIST) | expand -t 10

setup: ## install what is missing from Debian's packages (root or sudo)
	@scripts/setup --trixie

build: rust ## build everything
	$(CARGO) build --workspace --profile $(PROFILE)

test: rust setup ## all tests, those against the real agent and HAProxy too
	$(CARGO) build --workspace --bins
	$(CARGO) test --workspace --no-fail-fast -- --test-threads=$(TEST_THREADS)

demo: rust ## the main job on loopback, in about a minute; KEEP=1 leaves it up
	@scripts/setup
	$(CARGO) build --profile $(PROFILE) --bin serf-haproxy --bin demo
	@$(target)/demo $(if $(KEEP),--keep)

bench: rust ## join latency beside the agent's own event, memory, idle CPU
	@scripts/setup
	$(CARGO) build --profile $(PROFILE) --bin serf-haproxy --bin bench
	@$(target)/bench

lint: rust ## formatting, clippy, docs, shell syntax, licenses
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
	@for script in scripts/*; do sh -n $$script; done
	@bash -n .ci/run
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --offline check bans licenses sources; \
	else echo 'lint: cargo-deny is not here (make tools), licenses not checked'; fi

semver: rust ## what breaks users of serf-rpc since the last tag
	@tag=$$(git describe --tags --abbrev=0 2>/dev/null) || { echo 'semver: no tag yet, nothing to compare with'; exit 0; }; \
	$(CARGO) semver-checks --version >/dev/null 2>&1 || { echo 'semver: cargo-semver-checks is not here (make tools)'; exit 0; }; \
	$(CARGO) semver-checks --package serf-rpc --baseline-rev "$$tag"

fmt: ## format everything
	$(CARGO) fmt --all

tools: rust ## install the tools of the longer campaigns
	$(CARGO) install --locked cargo-deny cargo-fuzz cargo-mutants cargo-semver-checks

clean: ## remove what was built
	$(CARGO) clean

rust:
	@command -v $(CARGO) >/dev/null || { echo 'cargo is missing: https://rustup.rs'; exit 1; }
	@command -v cc >/dev/null || { echo 'cc is missing: apt-get install gcc libc6-dev'; exit 1; }

target = $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

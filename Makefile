# `make` lists what there is.
CARGO ?= cargo
PROFILE ?= release
# Tests start daemons and wait for them; more at a time would only starve them.
TEST_THREADS ?= 4
# Of each fuzz target.
FUZZ_SECONDS ?= 1800
FUZZ_TARGETS ?= object session replies
# Of `make chaos`: the first, and the one after the last.
SEEDS ?= 1..21
# The revision that `make semver` compares with; the breaks since are in serf-rpc/CHANGELOG.md.
BASELINE ?= 394227d

.DEFAULT_GOAL := help
.PHONY: help setup build check test demo lab lab-down bench chaos drill fuzz fuzz-smoke deb lint semver minimal fmt tools clean rust

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what is missing from Debian's packages (root or sudo)
	@scripts/setup --trixie

build: rust ## build everything
	$(CARGO) build --workspace --profile $(PROFILE)

check: rust ## the tests that need no daemon: units, laws, scenarios with a scripted agent
	@scripts/slowest $(CARGO) test -p serf-rpc -p planner -p controller -p serfctl -p serf-docker -p webapp -p reference --lib --bins --tests --no-fail-fast

test: rust setup ## all tests, those against the real agent and HAProxy too
	$(CARGO) build --workspace --bins
	@scripts/slowest $(CARGO) test --workspace --no-fail-fast -- --test-threads=$(TEST_THREADS)

demo: rust ## the main job on loopback, in about a minute; KEEP=1 leaves it up
	@scripts/setup
	$(CARGO) build --profile $(PROFILE) --bin serf-haproxy --bin demo
	@$(target)/demo $(if $(KEEP),--keep)

lab: rust ## the tour of the container lab (docs/lab.md); KEEP=1 leaves it up
	@scripts/setup --lab
	@docker info >/dev/null 2>&1 || { echo 'lab: no docker answers here (scripts/setup --docker installs it)'; exit 1; }
	$(CARGO) build --profile $(PROFILE) --bin serf-haproxy --bin serf-docker --bin serfctl --bin webapp
	@KEEP=$(KEEP) lab/tour $(abspath $(target))

lab-down: ## take down what KEEP=1 left
	@lab/tour --down

bench: rust ## join latency, memory, idle CPU; the library beside the client in Go and a bare socket; serfctl beside serf
	@scripts/setup --bench
	$(CARGO) build --profile $(PROFILE) --bin serf-haproxy --bin serfctl --bin bench
	@$(target)/bench

chaos: rust setup ## faults at random on every HAProxy, half an hour; SEEDS=1..21
	$(CARGO) build --workspace --bins
	@CAMPAIGN=1 SEEDS=$(SEEDS) $(CARGO) test -p integration --test e2e chaos::a_campaign -- --nocapture

drill: rust ## FILES='folder…': other people's configurations under load on every HAProxy (integration/src/bin/drill)
	@scripts/setup --trixie
	$(CARGO) build --profile $(PROFILE) --bin serf-haproxy --bin drill
	@$(target)/drill $(FILES)

# RUSTC_BOOTSTRAP lets a stable compiler take the flags that a nightly one takes anyway. No sanitizer:
# the project has no unsafe code, and without one there are more executions.
fuzz: rust ## fuzz the bytes of an agent; FUZZ_SECONDS=1800 for each target
	@$(CARGO) fuzz --version >/dev/null 2>&1 || { echo 'cargo-fuzz is missing: make tools'; exit 1; }
	@fuzz/seed
	@for target in $(FUZZ_TARGETS); do \
	RUSTC_BOOTSTRAP=1 $(CARGO) fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) \
	-timeout=10 -rss_limit_mb=1024 -print_final_stats=1 || exit 1; done

fuzz-smoke: ## the same for a minute each
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=60

deb: rust ## the packages serf-haproxy, serf-docker and serfctl, in target/debian
	@scripts/setup --deb
	$(CARGO) build --workspace --bins --profile $(PROFILE)
	@packaging/deb $(PROFILE)

lint: rust ## formatting, clippy, docs, shell syntax, licenses
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps
	@for script in scripts/* packaging/generate packaging/deb packaging/debian/* packaging/docker/debian/* lab/tour lab/stage lab/bin/* lab/s6/*/*/run lab/s6/*/*/finish lab/s6/*/.s6-svscan/SIGTERM; do sh -n $$script; done
	@bash -n .ci/run
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --offline check bans licenses sources; \
	else echo 'lint: cargo-deny is not here (make tools), licenses not checked'; fi

semver: rust ## what breaks users of serf-rpc since BASELINE
	@$(CARGO) semver-checks --version >/dev/null 2>&1 || { echo 'semver: cargo-semver-checks is not here (make tools)'; exit 0; }; \
	$(CARGO) semver-checks --package serf-rpc --all-features --release-type minor --baseline-rev $(BASELINE) \
	|| echo 'semver: each of these belongs into serf-rpc/CHANGELOG.md'

minimal: rust ## serf-rpc with the lowest versions of its dependencies that it allows
	@scripts/minimal

fmt: ## format everything
	$(CARGO) fmt --all

tools: rust ## install the tools of packages and of the longer campaigns
	@scripts/setup --deb
	$(CARGO) install --locked cargo-deny cargo-fuzz cargo-mutants cargo-semver-checks

clean: ## remove what was built
	$(CARGO) clean

rust:
	@command -v $(CARGO) >/dev/null || { echo 'cargo is missing: https://rustup.rs'; exit 1; }
	@command -v cc >/dev/null || { echo 'cc is missing: apt-get install gcc libc6-dev'; exit 1; }

target = $(or $(CARGO_TARGET_DIR),target)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

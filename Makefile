# One profile and one feature selection for everything that is built, so that RocksDB is compiled once.
#   make demo   a pool and a load generator on this machine, 15 s
#   make test   everything that must hold
#   make test-consensus   that Bitcoin Core's consensus code takes millrace's blocks

export CARGO_TARGET_DIR ?= $(HOME)/.cache/millrace/target

.PHONY: help demo test lint build bench fuzz deps regtest-node test-consensus lint-consensus test-bitcoind deps-consensus

help:
	@sed -n 's/^#   //p' $(MAKEFILE_LIST)
	@echo 'also: make build lint bench fuzz deps regtest-node lint-consensus'
	@echo '      make test-bitcoind BITCOIND=/path/to/bitcoind'

deps:
	@.ci/deps

build: deps
	cargo build --release --workspace

demo: build
	@.ci/demo

# The library without its engine has a target folder of its own: another feature selection in the same one would
# compile RocksDB again.
test: deps
	cargo test --release --workspace
	CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/core cargo check --release --lib --no-default-features

lint: deps
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --release --workspace --all-targets -- -D warnings

bench: build
	@.ci/bench

fuzz:
	@.ci/fuzz

# Bitcoin Core's consensus engine: a workspace and a target folder of its own, so that nothing else compiles it, and it
# no database.
consensus = cd tests/consensus && CARGO_TARGET_DIR=$(CARGO_TARGET_DIR)/consensus

deps-consensus:
	@.ci/deps consensus

regtest-node: deps-consensus
	$(consensus) cargo build --release

# Some of its tests are of the binaries of this workspace.
test-consensus: build deps-consensus
	$(consensus) cargo test --release

lint-consensus: deps-consensus
	$(consensus) cargo fmt --all --check
	$(consensus) cargo clippy --release --all-targets -- -D warnings

test-bitcoind: build deps-consensus
	@command -v "$(BITCOIND)" >/dev/null || { echo 'which one? make test-bitcoind BITCOIND=/path/to/bitcoind' >&2; exit 2; }
	$(consensus) MILLRACE_BITCOIND="$$(command -v "$(BITCOIND)")" cargo test --release --test consensus

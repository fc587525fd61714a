# One profile and one feature selection for everything that is built, so that RocksDB is compiled once.
#   make demo   a pool and a load generator on this machine, 15 s
#   make test   everything that must hold

export CARGO_TARGET_DIR ?= $(HOME)/.cache/millrace/target

.PHONY: help demo test lint build bench fuzz deps

help:
	@sed -n 's/^#   //p' $(MAKEFILE_LIST)
	@echo 'also: make build lint bench fuzz deps'

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
	cargo clippy --release --workspace --all-targets -- -D warnings

bench: build
	@.ci/bench

fuzz:
	@.ci/fuzz

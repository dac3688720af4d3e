# `make up` and `make test` are all there is to know; the rest serves them.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/skiff
DATA ?= /var/lib/skiff
export CARGO_TARGET_DIR ?= $(CACHE)/target
BIN = $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu

.PHONY: up down test lint build images lines

build:
	cargo build --release -p skiff

# Builds, starts a cluster of one node in the background, waits until it is Ready, says what to type next.
up: build
	@sh packaging/up.sh $(BIN)/release/skiff $(DATA)

# Stops what `make up` started and leaves no trace but the data.
down:
	@sh packaging/down.sh $(BIN)/release/skiff $(DATA)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked

# Everything CI runs. Upstream's kubectl and golden files are built and fetched first.
test: lint images
	K8S_API_TESTDATA="$$(tests/upstream/build.sh $(CACHE)/upstream)" SKIFF_TEST_KUBECTL=$(CACHE)/upstream/kubectl \
	  SKIFF_TEST_IMAGES=$(CACHE)/images cargo test --workspace --locked

# The images of the example application and of the tests, from Debian packages.
images:
	python3 examples/images.py $(CACHE)/images

# Lines of product code by crate, the longest files and the median.
lines:
	@python3 packaging/lines.py

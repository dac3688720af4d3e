# `make up` and `make test` are all there is to know; the rest serves them.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/skiff
DATA ?= /var/lib/skiff
export CARGO_TARGET_DIR ?= $(CACHE)/target
BIN = $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu

.PHONY: up down test lint build images lines bench

build:
	cargo build --release -p skiff

# Builds, starts a cluster of one node in the background, waits until it is Ready, says what to type next.
# EXAMPLE=shop starts it with that example.
up: build $(if $(EXAMPLE),images)
	@sh packaging/up.sh $(BIN)/release/skiff $(DATA) $(if $(EXAMPLE),examples/$(EXAMPLE) $(CACHE)/images)

# Stops what `make up` started and leaves no trace but the data.
down:
	@sh packaging/down.sh $(BIN)/release/skiff $(DATA)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked
	python3 packaging/policy.py

# Everything CI runs. Upstream's programs and golden files are built and fetched first.
test: lint images
	tests/upstream/build.sh $(CACHE)/upstream control-plane
	K8S_API_TESTDATA="$$(tests/upstream/build.sh $(CACHE)/upstream)" SKIFF_TEST_KUBECTL=$(CACHE)/upstream/kubectl \
	  SKIFF_TEST_UPSTREAM=$(CACHE)/upstream SKIFF_TEST_IMAGES=$(CACHE)/images cargo test --workspace --locked

# The images of the example application and of the tests, from Debian packages.
images:
	python3 examples/images.py $(CACHE)/images

# Measures skiff beside upstream's own programs, which are built first, and prints one table: half an hour on two cores.
# ROWS=start,idle,... picks rows; AGAINST=none leaves upstream out. What else there is: FLAGS=--help.
bench: build
	cargo build --release -p bench
	tests/upstream/build.sh $(CACHE)/upstream kubectl pause $(if $(filter none,$(AGAINST)),,node)
	python3 examples/images.py $(CACHE)/images nginx dnsutils >&2
	@$(BIN)/release/bench run --skiff $(BIN)/release/skiff --programs $(CACHE)/upstream --images $(CACHE)/images \
	  --dir $(CACHE)/bench --rows "$(ROWS)" --against $(or $(AGAINST),upstream) $(FLAGS)

# Lines of product code by crate, the longest files and the median.
lines:
	@python3 packaging/lines.py

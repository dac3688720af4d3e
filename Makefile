# `make up` and `make test` are all there is to know; the rest serves them.
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/skiff
DATA ?= /var/lib/skiff
export CARGO_TARGET_DIR ?= $(CACHE)/target
BIN = $(CARGO_TARGET_DIR)/x86_64-unknown-linux-gnu

LABELS = Conformance
SKIFF ?= $(BIN)/release/skiff
SAMPLE ?= 6
SUITE = python3 tests/conformance/run.py --programs $(CACHE)/upstream --images $(CONFORMANCE_IMAGES) --out $(CACHE)/conformance
CONFORMANCE_IMAGES = $(CACHE)/conformance-images/conformance.tar

# regular expressions and filters have characters that the shell would take
export FOCUS SKIP LABELS

.PHONY: up down test fuzz lint build images lines bench conformance conformance-programs fairness hostile differential fresh operators node-failures behind-nat upstream-node our-node short-certificates network hollow sample docs

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
	python3 packaging/docs.py check

# Everything CI runs. Upstream's programs and golden files are built and fetched first. At the end, SAMPLE=6 minutes of the conformance
# tests that are known to pass, another part for each commit.
test: lint images $(CONFORMANCE_IMAGES)
	tests/upstream/build.sh $(CACHE)/upstream control-plane sample-apiserver
	K8S_API_TESTDATA="$$(tests/upstream/build.sh $(CACHE)/upstream)" SKIFF_TEST_KUBECTL=$(CACHE)/upstream/kubectl \
	  POD_SECURITY_TESTDATA="$$(tests/upstream/build.sh $(CACHE)/upstream pod-security)" \
	  SKIFF_TEST_CEL="$$(tests/upstream/build.sh $(CACHE)/upstream cel)" \
	  FUZZ_SEED=$$(printf '%d' 0x$$(git rev-parse --short=8 HEAD)) FUZZ_CHANGES=1000 \
	  SKIFF_TEST_UPSTREAM=$(CACHE)/upstream SKIFF_TEST_IMAGES=$(CACHE)/images python3 packaging/test.py
	python3 -m unittest discover -s tests/conformance
	$(MAKE) --no-print-directory sample SKIFF=$(BIN)/debug/skiff
	python3 packaging/docs.py check --skiff $(BIN)/debug/skiff
	$(SUITE) --skiff $(BIN)/debug/skiff --sample $(SAMPLE)

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

# Upstream's conformance suite against a cluster of one node, or NODES=2 and more: all that bears [Conformance], PROCS=6 at a time, then the serial ones.
# FOCUS=regex SKIP=regex pick tests, RUNS=3 runs it so often (SAME=1: on one cluster), AGAINST=upstream judges upstream's own node, SKIFF=path another binary,
# LABELS= takes tests that do not bear [Conformance] too, DUAL=1 gives the cluster IPv6 beside IPv4. A run of everything writes docs/conformance.md and the lists beside the suite.
conformance: $(if $(filter upstream,$(AGAINST))$(filter-out file,$(origin SKIFF)),,build) $(CONFORMANCE_IMAGES)
	$(if $(filter upstream,$(AGAINST)),tests/upstream/build.sh $(CACHE)/upstream node)
	@$(SUITE) \
	  $(if $(filter upstream,$(AGAINST)),,--skiff $(SKIFF)) --focus "$$FOCUS" --skip "$$SKIP" --labels "$$LABELS" \
	  --procs $(or $(PROCS),6) --nodes $(or $(NODES),1) $(if $(DUAL),--dual) --runs $(or $(RUNS),1) $(if $(SAME),--same-cluster)

# Upstream's programs that a rig needs, where it is not the API server alone.
PROGRAMS_control_plane = control-plane
PROGRAMS_autoscaling = control-plane
PROGRAMS_type_checking = control-plane
PROGRAMS_node = node teller
PROGRAMS_dns = api-server coredns
PROGRAMS_services = api-server kube-proxy

# The same seeded questions to upstream's programs and ours: RIG=access SEEDS=1-5000, or REPLAY=file of a difference that a run has written.
# RECORD=1 keeps upstream's answers to these seeds as the rig's sample.
differential: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream $(or $(PROGRAMS_$(RIG)),api-server)
	@python3 tests/differential/driver.py $(RIG) --programs $(CACHE)/upstream --skiff $(SKIFF) --out $(CACHE)/differential \
	  $(if $(REPLAY),--replay $(REPLAY),--seeds $(or $(SEEDS),1-500)) $(if $(RECORD),--record tests/differential/sample/$(RIG).jsonl.xz)

# Operators that others wrote (cert-manager, Helm, metrics-server, Gatekeeper, prometheus-operator) on a cluster of one node each: NAME=helm4, or all of them.
operators: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream operators
	@python3 tests/operators/run.py $(or $(NAME),all) --skiff $(SKIFF) --programs $(CACHE)/upstream --images $(CACHE)/operators

# Three nodes, of which one fails in each way that machines fail: NAME=frozen, or all of them in a quarter of an hour.
node-failures: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream kubectl
	@python3 tests/nodes/run.py $(or $(NAME),all) --skiff $(SKIFF) --programs $(CACHE)/upstream --out $(CACHE)/nodes

# Three agents behind a router that hides them, and all for which the API server connects to nodes and pods.
behind-nat: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream kubectl
	@python3 tests/nodes/behind_nat.py --skiff $(SKIFF) --programs $(CACHE)/upstream --out $(CACHE)/nodes

# Upstream's kubelet with containerd, kube-proxy and CoreDNS on skiff's server, joined by kubeadm.
upstream-node: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream node
	@python3 tests/nodes/upstream_node.py --skiff $(SKIFF) --programs $(CACHE)/upstream --out $(CACHE)/nodes

# Our kubelet and runtime, kube-proxy and DNS in upstream's cluster, joined by kubeadm.
our-node: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream node
	@python3 tests/nodes/our_node.py --skiff $(SKIFF) --programs $(CACHE)/upstream --out $(CACHE)/nodes

# Certificates that live two minutes on a server and two agents, under load for MINUTES=15.
short-certificates: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream kubectl
	@python3 tests/nodes/certificates.py --skiff $(SKIFF) --programs $(CACHE)/upstream --out $(CACHE)/nodes --minutes $(or $(MINUTES),15)

# The network between two nodes beside upstream's with flannel, and how long a changed endpoint takes among SERVICES=10,10000.
network: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream $(if $(filter none,$(AGAINST)),kubectl,node flannel)
	@python3 tests/nodes/network.py --skiff $(SKIFF) --programs $(CACHE)/upstream --out $(CACHE)/nodes --against $(or $(AGAINST),upstream) \
	  $(if $(SERVICES),--services $(SERVICES))

# What a cluster of NODES=200 hollow nodes costs its server, with PODS=5000 that are all replaced once.
hollow: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream kubectl
	@python3 tests/nodes/hollow.py --skiff $(SKIFF) --programs $(CACHE)/upstream --nodes $(or $(NODES),200) --pods $(or $(PODS),5000)

# What a fresh cluster has of itself, beside upstream's: objects, pages, OpenAPI.
fresh: $(if $(filter file,$(origin SKIFF)),build)
	tests/upstream/build.sh $(CACHE)/upstream control-plane
	@python3 tests/differential/fresh.py --programs $(CACHE)/upstream --skiff $(SKIFF) --out $(CACHE)/differential/fresh

# Every parser of foreign bytes under libFuzzer, SECONDS=60 each: TARGET=yaml, or all of them. What is found becomes a seed in fuzz/seeds, which
# each `cargo test` tries.
fuzz:
	@CARGO_TARGET_DIR=$(CACHE)/fuzz/target python3 fuzz/run.py $(TARGET) --seconds $(or $(SECONDS),60)

# A fixed sample of the rigs' questions, to skiff alone: upstream's answers are recorded.
sample:
	@for tape in tests/differential/sample/*.jsonl.xz; do \
	  python3 tests/differential/driver.py $$(basename $$tape .jsonl.xz) --skiff $(SKIFF) --out $(CACHE)/differential --tape $$tape --shrink 0 --again || exit 1; done

$(CONFORMANCE_IMAGES): tests/conformance/images.py packaging/oci.py tests/upstream/build.sh tests/conformance/go.sum | conformance-programs
	python3 tests/conformance/images.py $(CACHE)/upstream $(@D)

conformance-programs:
	@tests/upstream/build.sh $(CACHE)/upstream conformance

# The book of docs/ as HTML, in OUT.
docs:
	@[ -x $(CACHE)/docs-venv/bin/python ] || { python3 -m venv $(CACHE)/docs-venv && $(CACHE)/docs-venv/bin/pip -q install markdown; }
	@$(CACHE)/docs-venv/bin/python packaging/docs.py build $(or $(OUT),$(CACHE)/docs)

# Lines of product code by crate, the longest files and the median.
lines:
	@python3 packaging/lines.py

# One user who lists without pause by 200 clients, beside another user and a node: neither may wait for the first.
fairness: build
	python3 tests/hostile/fairness.py --skiff $(BIN)/release/skiff

# Hostile clients, SEEDS=1-1000 of them four at a time, against a server that has 256 MiB: it must not die, and answer others throughout.
hostile: build
	python3 tests/hostile/run.py --skiff $(BIN)/release/skiff --seeds $(or $(SEEDS),1-1000)

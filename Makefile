# Everything runs as root on a bare Debian machine with Go and Python: see README.md. `make` alone lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

OUT := out
GEN := CGO_ENABLED=0 go tool -modfile=hack/tools/codegen/go.mod controller-gen
BUF := CGO_ENABLED=0 go tool -modfile=hack/tools/buf/go.mod buf
LINT := CGO_ENABLED=0 go tool -modfile=hack/tools/lint/go.mod golangci-lint
GOTESTSUM := CGO_ENABLED=0 go tool -modfile=hack/tools/gotestsum/go.mod gotestsum
GOTESTSUM_LONG := env $(GOTESTSUM) --format standard-verbose --jsonfile
RACE_TEST := env CGO_ENABLED=1 go test -json -race
LOCAL_CLUSTER := go run ./hack/cluster
# local starts a cluster on this machine; existing takes the current kubeconfig's, with these images.
CLUSTER ?= local
export CLUSTER OPERATOR_IMAGE WORKER_IMAGE SAMPLES_IMAGE
# The local cluster is brought up before gotestsum, which would hide what it says of its progress.
ON_CLUSTER = if [ "$(CLUSTER)" != existing ]; then $(LOCAL_CLUSTER) up; $(LOCAL_CLUSTER) load --images; eval "$$($(LOCAL_CLUSTER) env)"; fi
PYTHON ?= python3
VENV := $(OUT)/venv

##@ Start here
.PHONY: help demo test
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: prerequisites ## A real Kubernetes on this machine, an app, a pool, V1 → V2 → a bad V2 → back
	@go run ./hack/demo

test: prerequisites ## Everything: verify, unit, python, integration, e2e; prints the time of each
	@./hack/stages.sh verify test-unit test-python test-integration test-e2e

##@ Stages of `make test`, each runs alone
.PHONY: verify verify-generate lint test-unit test-python test-integration test-e2e
verify: verify-generate lint ## Generated files are fresh, manifests render, lint is clean

verify-generate: generate
	@git diff --exit-code --stat -- $(GENERATED) || { echo "generated files differ from what is committed: commit what 'make generate' wrote"; exit 1; }
	@test -z "$$(git ls-files --others --exclude-standard -- $(GENERATED))" || { echo "generated files aren't committed:"; git ls-files --others --exclude-standard -- $(GENERATED); exit 1; }
	@$(LOCAL_CLUSTER) build kubectl
	@for d in default samples; do $(LOCAL_CLUSTER) kubectl kustomize config/$$d >/dev/null || { echo "config/$$d doesn't render"; exit 1; }; done

lint: $(VENV)/ready
	@test -z "$$(gofmt -l $(GO_DIRS))" || { echo "run gofmt -w on:"; gofmt -l $(GO_DIRS); exit 1; }
	@go mod tidy -diff >/dev/null || { echo "run go mod tidy"; exit 1; }
	@$(BUF) lint
	@$(LINT) run --allow-parallel-runners ./...
	@for m in hack/images hack/tools/coredns; do go -C $$m vet ./... && go -C $$m mod tidy -diff; done
	@cd python && ../$(VENV)/bin/ruff check . && ../$(VENV)/bin/ruff format --check . && ../$(VENV)/bin/mypy

test-unit: $(OUT) prerequisites ## Go unit tests with the race detector
	@$(GOTESTSUM) --format pkgname-and-test-fails --jsonfile $(OUT)/unit.json --raw-command -- \
	  $(RACE_TEST) -timeout 15m ./...
	@go -C hack/images test ./...

test-python: $(VENV)/ready ## Python tests, with this Python and one other where there is one
	@rm -f $(OUT)/python*.xml
	@./hack/python-tests.sh $(VENV) $(OUT)

test-integration: $(OUT) prerequisites ## Controllers and channel against a real API server and etcd
	@assets=$$($(LOCAL_CLUSTER) env --assets); \
	KUBEBUILDER_ASSETS=$$assets $(GOTESTSUM) --format pkgname-and-test-fails --jsonfile $(OUT)/integration.json --raw-command -- \
	  $(RACE_TEST) -timeout 20m -tags integration ./test/integration/...

test-e2e: $(OUT) prerequisites ## Stories on the real cluster, the demo first
	@$(ON_CLUSTER); $(GOTESTSUM) --format testname --jsonfile $(OUT)/e2e.json -- -timeout 40m -count 1 -parallel 4 -tags e2e ./test/e2e/...
	@grep -oh 'measured: [^"\\]*' $(OUT)/e2e.json || true

##@ Not part of `make test`
.PHONY: test-long image-check
test-long: $(VENV)/ready ## What takes long: faults under load, fuzzing, every Python, simulations, ten minutes of A/A on the real cluster
	@./hack/fuzz.sh 60s $(VENV)/bin/python
	@./hack/python-tests.sh $(VENV) $(OUT) all
	@./hack/long-tests.sh "long" internal \
	  $(GOTESTSUM_LONG) $(OUT)/long.json -- -timeout 60m -count 1
	@$(ON_CLUSTER); ./hack/long-tests.sh "e2e && long" test/e2e \
	  $(GOTESTSUM_LONG) $(OUT)/long-e2e.json -- -timeout 60m -count 1

image-check: prerequisites ## Build the Dockerfile with Debian's buildah and compare it with hack/images
	@go -C hack/images run . check

##@ More
.PHONY: behaviours images generate deploy undeploy cluster-down prerequisites
behaviours: ## Which numbered behaviours have a passing test, from the last run's output
	@go run ./hack/behaviours $(OUT)

images: $(OUT) prerequisites ## Write the images as tarballs into out/images, for `kind load image-archive` and the like
	@go -C hack/images run . --out $(CURDIR)/$(OUT)/images operator worker samples
	@ls -sh $(OUT)/images/*.tar

generate: ## Write the generated code, CRD and RBAC
	@$(GEN) object paths=./api/...
	@$(GEN) crd paths=./api/... output:crd:dir=config/crd/bases
	@$(GEN) rbac:roleName=workerpool-operator paths=./controllers/... output:rbac:dir=config/rbac
	@$(BUF) generate

.PHONY: bench-pool
bench-pool: prerequisites ## The pool against Python's pools, web servers, loky and Ray; writes docs/benchmarks.md
	@go run ./hack/bench-pool $(BENCH_ARGS)

deploy: ## Apply the operator to the current kubectl context (KUBECONFIG)
	@kubectl apply --server-side --force-conflicts -k config/default

undeploy: ## Take it out again, and what demo and tests made; the CRD, with pools and workloads, stays
	@kubectl delete namespace --ignore-not-found -l hack.dspex.dev/made-by-demo-or-tests
	@for part in webhook manager rbac; do kubectl delete --ignore-not-found -k config/$$part; done

cluster-down: ## Stop the local cluster and leave nothing behind
	@$(LOCAL_CLUSTER) down

prerequisites:
	@./hack/prerequisites.sh

GO_DIRS := api cmd controllers internal hack test config/samples python
GENERATED := api config/crd/bases config/rbac internal/control/controlpb

$(OUT):
	@mkdir -p $(OUT)

$(VENV)/ready: python/requirements-dev.txt | $(OUT) prerequisites
	@$(PYTHON) -m venv $(VENV) && $(VENV)/bin/pip install -q --disable-pip-version-check -r python/requirements-dev.txt && touch $@

# `make help` lists the targets. ENV chooses the topology: home-server-infra/topology/<ENV>.yaml.
ENV := local
CORE := .local/venvs/core/bin
DBT := .local/venvs/dbt/bin
ANSIBLE := .local/venvs/ansible/bin
LOCK := .local/venvs/uv/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --emit-build-options --quiet \
	--no-emit-package crm-data-platform-core --no-emit-package crm-data-generator --no-emit-package crm-home-infra
SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# If it is set, every command recompiles its imports: about 3 s each, and tests start hundreds of commands.
unexport PYTHONDONTWRITEBYTECODE
# Python and Java decode paths with it, so that a checkout path may have any letters in any locale.
export LC_ALL := C.UTF-8

##@ Start here

.PHONY: demo
demo: setup ## Set up and start everything, send a minute of traffic (SECONDS=60), load, build marts, reconcile every record
	@$(CORE)/crm-experiment demo --env $(ENV) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Tests, beside a running demo (PYTEST="-k words" chooses some)

# A tier is a set of markers; data-platform-core/tests/seconds.json has each test's duration.
TIER = $(CORE)/python -m pytest --durations=25
.PHONY: check test test-faults test-experiments test-all
check: setup ## Lint, and the tests without servers; two minutes
	@$(MAKE) lint
	@# Two workers: one has Spark's session and its tests, the other the rest.
	@$(TIER) -n 2 --dist loadgroup -m "unit or spark" $(PYTEST)

test: setup ## `check`, then each part on real servers, then end-to-end traffic; CI runs this
	@$(MAKE) lint
	@$(TIER) --keep-seconds -m "not faults and not experiments" $(PYTEST)

test-faults: setup ## Break servers, disks, checkpoints and records on purpose; each must recover automatically
	@$(TIER) --keep-seconds -m faults $(PYTEST)

test-experiments: setup ## Small versions of the spike, the bench, and dashboards under traffic
	@$(TIER) --keep-seconds -m experiments $(PYTEST)

test-all: setup ## Run every tier despite failures; one summary line each at the end
	@summary=; failed=; for tier in test test-faults test-experiments; do \
		began=$$(date +%s); verdict=passed; \
		$(MAKE) $$tier || { verdict=FAILED; failed=1; }; \
		summary="$$summary$$tier: $$verdict in $$(($$(date +%s) - began)) s\n"; \
	done; printf "\n$$summary"; test -z "$$failed"

##@ Setup

.PHONY: setup
setup: ## Install everything from registries into .local/; repeats only what has changed
	@sh home-server-infra/local/setup.sh

.PHONY: lock
lock: setup ## Resolve requirements/*.in into *.txt with hashes
	@# The core environment first: the images' locks use its versions.
	@set -e; cd requirements; for file in core.in $$(ls *.in | grep -vx core.in); do \
		echo "lock $$file"; ../$(LOCK) "$$file" --upgrade --output-file "$${file%.in}.txt"; done

##@ Embedded stack (ENV=local or ENV=test)

.PHONY: up down status logs clean psql alerts drill
up: setup ## Start Kafka x3, registry, object store, PostgreSQL, monitoring, wait until healthy; WITH=batch starts more
	@$(CORE)/crm-stack up --env $(ENV) $(if $(WITH),--with $(WITH))

down: ## Stop the stack; data is kept
	@$(CORE)/crm-stack down --env $(ENV)

status: ## Show state, address, memory and health of each service
	@$(CORE)/crm-stack status --env $(ENV)

logs: ## Follow the logs; SERVICE=kafka-1 for one service
	@$(CORE)/crm-stack logs --env $(ENV) $(if $(SERVICE),--service $(SERVICE))

clean: ## Delete the data of ENV; refused while it is up
	@$(CORE)/crm-stack clean --env $(ENV)

alerts: ## Show firing alerts and sent messages
	@$(CORE)/crm-stack alerts --env $(ENV)

drill: ## Cause real failures and follow each alert to its message and back; SCALE=0.1 for a tenth of the waits
	@$(CORE)/crm-experiment drill --env $(ENV) --scale $(or $(SCALE),1)

psql: ## Open the warehouse as its reader
	@$(CORE)/crm-stack psql --env $(ENV)

##@ Data

.PHONY: stream topics generate migrate reset-db seed sla load dbt docs reconcile bench spike
stream: setup ## Start the streaming driver under the supervisor; `make down` ends it
	@$(CORE)/crm-stack start streaming --env $(ENV)

migrate: setup ## Update schemas, tables and roles of the warehouse; `crm warehouse downgrade` goes back
	@$(CORE)/crm --env $(ENV) warehouse migrate

reset-db: setup ## Delete all rows and models of the warehouse, in ENV=local and test only; asks first
	@$(CORE)/crm --env $(ENV) warehouse reset

seed: setup ## Send fixtures: 1,000 customers, 500 products, 10,000 orders, 5,000 reviews; APPEND=1 adds as many
	@$(CORE)/crm-generator seed --env $(ENV) $(if $(APPEND),--append)

sla: setup ## Check every service level now
	@$(CORE)/crm --env $(ENV) sla check

load: setup ## Load new rows of silver into the warehouse
	@$(CORE)/crm --env $(ENV) load

topics: setup ## Show pending changes of topics from contracts and topology
	@$(CORE)/crm --env $(ENV) topics plan

generate: setup ## Regenerate files from contracts, topology, accounts, alert rules and runbooks
	@# Dashboards first: the chart has copies of them.
	@$(CORE)/crm-dashboards generate
	@$(CORE)/crm generate

dbt: setup ## Build and test the marts
	@$(CORE)/crm --env $(ENV) dbt build

docs: setup ## Write the marts' documentation and print its path
	@$(CORE)/crm --env $(ENV) dbt docs

reconcile: setup ## Reconcile every record of a run: RUN=<run id>
	@$(CORE)/crm --env $(ENV) reconcile --run-id "$(or $(RUN),$(error RUN is missing: make reconcile RUN=<run id>))"

bench: setup ## Benchmark this machine on a separate fresh stack; ONLY=streaming for one part
	@$(CORE)/crm-experiment bench $(if $(ONLY),--only $(ONLY))

spike: setup ## Run the same spike against several remedies, with a report; short: ARMS=baseline,partitions HOLD=60
	@$(CORE)/crm-experiment spike $(if $(ARMS),--arms $(ARMS)) $(if $(HOLD),--hold $(HOLD)) \
		$(if $(RUNTIME),--runtime $(RUNTIME))

##@ Test hosts for Ansible (root; see home-server-infra/lab/README.md)

.PHONY: lab-up lab-test lab-down
lab-up: setup ## Start a simulated Proxmox host with systemd test hosts on this machine, for the playbooks
	@sh home-server-infra/local/setup.sh ansible
	@$(CORE)/crm-lab up

lab-test: setup ## Build, validate, break, tear down on a fresh lab; CHAIN=zookeeper or stores, FROM=<step> to resume
	@sh home-server-infra/local/setup.sh ansible
	@$(CORE)/crm-lab test $(if $(CHAIN),--chain $(CHAIN)) $(if $(FROM),--from "$(FROM)")

lab-down: setup ## Stop the lab; DELETE=1 also deletes its hosts
	@$(CORE)/crm-lab down $(if $(DELETE),--delete)

##@ A Kubernetes of one node on this machine (root; home-server-infra/lab/README.md says what it needs)

.PHONY: k8s-up k8s-images k8s-test k8s-down test-k8s
k8s-up: setup ## From an empty machine to a node with DNS, volumes and the Spark operator
	@$(CORE)/crm-lab k8s up

k8s-images: setup ## Build crm-spark and crm-jobs for the node and import them
	@$(CORE)/crm-lab k8s images

k8s-test: setup ## Kill, restart and change parts of the cluster under traffic; every record must be accounted for
	@eval "$$($(CORE)/crm-lab k8s env)" && $(CORE)/crm-experiment disrupt $(if $(RATE),--rate $(RATE))

k8s-down: ## End the cluster and forget its objects; what was built stays
	@$(CORE)/crm-lab k8s down

test-k8s: setup ## Every manifest of every environment, tried by a real API server; needs no root, runs no pod
	@$(CORE)/crm-lab k8s check

##@ Kubernetes (docs/ai-context/runbooks/kubernetes.md)

.PHONY: images deploy undeploy
images: setup ## Build crm-spark and crm-jobs for ENV=home; BUILD="--build-arg BASE=..." goes to the builder
	@sh data-platform-core/docker/build.sh $(ENV) $(BUILD)

deploy: setup ## All of ENV=home on the cluster of your kubeconfig, in order; may be repeated
	@sh helm/deploy.sh up $(ENV)

undeploy: setup ## Take our pods of ENV=home away; operators, namespaces and all data stay
	@sh helm/deploy.sh down $(ENV)

##@ Code

.PHONY: lint fmt
lint: setup ## Run ruff, mypy, import-linter, yamllint, sqlfluff, dbt parse
	$(CORE)/ruff check .
	$(CORE)/ruff format --check .
	$(CORE)/mypy
	$(CORE)/lint-imports
	$(CORE)/yamllint --strict .
	cd dbt && ../$(DBT)/sqlfluff lint models tests macros
	$(CORE)/crm --env $(ENV) dbt parse

.PHONY: lint-ansible
lint-ansible: ## Run ansible-lint with its production profile; installs Ansible into a separate environment
	@sh home-server-infra/local/setup.sh ansible
	cd ansible && PATH="$(CURDIR)/$(ANSIBLE):$$PATH" ansible-lint --offline

fmt: setup ## Format Python
	@$(CORE)/ruff check --fix-only --quiet .
	@$(CORE)/ruff format .

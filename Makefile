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
# Where it is set, every command would compile all that it imports anew: some 3 s each, and tests start hundreds.
unexport PYTHONDONTWRITEBYTECODE
# Python and Java decode paths by it: a checkout below a folder of any letters, whatever the person's own locale.
export LC_ALL := C.UTF-8

##@ Begin here

.PHONY: demo
demo: setup ## Setup, stack, a minute of traffic (SECONDS=60), load, marts, and the proof that all is accounted for
	@$(CORE)/crm-experiment demo --env $(ENV) $(if $(SECONDS),--seconds $(SECONDS))

.PHONY: help
help: ## This list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

##@ Tests, beside a running demo (PYTEST="-k words" chooses some)

# A tier is a choice of markers; data-platform-core/tests/seconds.json keeps what each test takes.
TIER = $(CORE)/python -m pytest --durations=25
.PHONY: check test test-faults test-experiments test-all
check: setup ## Lint and the tests that need no server, in two minutes
	@$(MAKE) lint
	@# Two workers: one has Spark's session and its tests, the other the rest.
	@$(TIER) -n 2 --dist loadgroup -m "unit or spark" $(PYTEST)

test: setup ## Lint and those, then each part on real servers, then every kind of traffic end to end; what CI runs
	@$(MAKE) lint
	@$(TIER) --keep-seconds -m "not faults and not experiments" $(PYTEST)

test-faults: setup ## Break servers, disks, checkpoints and records on purpose; each must end by itself
	@$(TIER) --keep-seconds -m faults $(PYTEST)

test-experiments: setup ## A spike with every remedy on a second stack, the bench, dashboards under traffic; all small
	@$(TIER) --keep-seconds -m experiments $(PYTEST)

test-all: setup ## Every tier, one after another, whatever fails, and a line for each at the end
	@said=; failed=; for tier in test test-faults test-experiments; do \
		began=$$(date +%s); verdict=passed; \
		$(MAKE) $$tier || { verdict=FAILED; failed=1; }; \
		said="$$said$$tier: $$verdict in $$(($$(date +%s) - began)) s\n"; \
	done; printf "\n$$said"; test -z "$$failed"

##@ Setup

.PHONY: setup
setup: ## Everything from registries into .local/; does only what has changed
	@sh home-server-infra/local/setup.sh

.PHONY: lock
lock: setup ## Resolve requirements/*.in anew into *.txt with hashes
	@# The core environment first: the images' locks take their versions from it.
	@set -e; cd requirements; for file in core.in $$(ls *.in | grep -vx core.in); do \
		echo "lock $$file"; ../$(LOCK) "$$file" --upgrade --output-file "$${file%.in}.txt"; done

##@ Embedded stack (ENV=local or ENV=test)

.PHONY: up down status logs clean psql alerts drill
up: setup ## Start Kafka x3, registry, object store, PostgreSQL, monitoring, wait until healthy; WITH=batch starts more
	@$(CORE)/crm-stack up --env $(ENV) $(if $(WITH),--with $(WITH))

down: ## Stop it; data stays
	@$(CORE)/crm-stack down --env $(ENV)

status: ## State, address, memory and health of each service
	@$(CORE)/crm-stack status --env $(ENV)

logs: ## Follow the logs; SERVICE=kafka-1 for one service
	@$(CORE)/crm-stack logs --env $(ENV) $(if $(SERVICE),--service $(SERVICE))

clean: ## Delete the data of ENV; refuses while it is up
	@$(CORE)/crm-stack clean --env $(ENV)

alerts: ## What fires, and the messages that were sent
	@$(CORE)/crm-stack alerts --env $(ENV)

drill: ## Break things for real, follow each alert to its message and back: SCALE=0.1 for a tenth of the waits
	@$(CORE)/crm-experiment drill --env $(ENV) --scale $(or $(SCALE),1)

psql: ## Open the warehouse as its reader
	@$(CORE)/crm-stack psql --env $(ENV)

##@ Data

.PHONY: stream topics generate load dbt docs reconcile bench spike
stream: setup ## Start the streaming driver under the supervisor; `make down` ends it
	@$(CORE)/crm-stack start streaming --env $(ENV)

load: setup ## Carry what is new in silver into the warehouse
	@$(CORE)/crm --env $(ENV) load

topics: setup ## Show what contracts and topology would change on the brokers' topics
	@$(CORE)/crm --env $(ENV) topics plan

generate: setup ## Rewrite the files that are derived from contracts, alert rules and runbooks
	@# Dashboards first: the chart has copies of them.
	@$(CORE)/crm-dashboards generate
	@$(CORE)/crm generate

dbt: setup ## Build and test the marts
	@$(CORE)/crm --env $(ENV) dbt build

docs: setup ## Write the marts' documentation and say where it is
	@$(CORE)/crm --env $(ENV) dbt docs

reconcile: setup ## Account for every record of a run: RUN=<run id>
	@$(CORE)/crm --env $(ENV) reconcile --run-id "$(or $(RUN),$(error say which run: make reconcile RUN=<run id>))"

bench: setup ## Measure this machine on a fresh stack of its own; ONLY=streaming for one part
	@$(CORE)/crm-experiment bench $(if $(ONLY),--only $(ONLY))

spike: setup ## The same spike against several remedies, with a report: ARMS=baseline,partitions HOLD=60 make it short
	@$(CORE)/crm-experiment spike $(if $(ARMS),--arms $(ARMS)) $(if $(HOLD),--hold $(HOLD))

##@ Test hosts for Ansible (root; home-server-infra/lab/README.md says what they need)

.PHONY: lab-up lab-test lab-down
lab-up: setup ## A Proxmox host with systemd test hosts on this machine, for the playbooks to run against
	@sh home-server-infra/local/setup.sh ansible
	@$(CORE)/crm-lab up

lab-test: setup ## Build, validate, break, tear down on a fresh lab; CHAIN=zookeeper or stores, FROM=<step> to go on
	@sh home-server-infra/local/setup.sh ansible
	@$(CORE)/crm-lab test $(if $(CHAIN),--chain $(CHAIN)) $(if $(FROM),--from "$(FROM)")

lab-down: setup ## End the lab; DELETE=1 also deletes its hosts
	@$(CORE)/crm-lab down $(if $(DELETE),--delete)

##@ A Kubernetes of one node on this machine (root; home-server-infra/lab/README.md says what it needs)

.PHONY: k8s-up k8s-down test-k8s
k8s-up: setup ## From an empty machine to a node with DNS, volumes and the Spark operator
	@$(CORE)/crm-lab k8s up

k8s-down: ## End the cluster and forget its objects; what was built stays
	@$(CORE)/crm-lab k8s down

test-k8s: setup ## Every manifest of every environment, tried by a real API server; needs no root, runs no pod
	@$(CORE)/crm-lab k8s check

##@ Kubernetes (docs/ai-context/runbooks/kubernetes.md)

.PHONY: images
images: setup ## Build crm-spark and crm-jobs for ENV=home; BUILD="--build-arg BASE=..." goes to the builder
	@sh data-platform-core/docker/build.sh $(ENV) $(BUILD)

##@ Code

.PHONY: lint fmt
lint: setup ## ruff, mypy, import-linter, yamllint, sqlfluff, dbt parse
	$(CORE)/ruff check .
	$(CORE)/ruff format --check .
	$(CORE)/mypy
	$(CORE)/lint-imports
	$(CORE)/yamllint --strict .
	cd dbt && ../$(DBT)/sqlfluff lint models tests macros
	$(CORE)/crm --env $(ENV) dbt parse

.PHONY: lint-ansible
lint-ansible: ## ansible-lint with its production profile; installs Ansible into an environment of its own
	@sh home-server-infra/local/setup.sh ansible
	cd ansible && PATH="$(CURDIR)/$(ANSIBLE):$$PATH" ansible-lint --offline

fmt: setup ## Format Python
	@$(CORE)/ruff check --fix-only --quiet .
	@$(CORE)/ruff format .

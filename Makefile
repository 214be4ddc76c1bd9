# `make help` lists the targets. ENV chooses the topology (home-server-infra/topology/<ENV>.yaml).
ENV ?= local
CORE := .local/venvs/core/bin

up:
	@$(CORE)/crm-stack up --env $(ENV)
down:
	@$(CORE)/crm-stack down --env $(ENV)
status:
	@$(CORE)/crm-stack status --env $(ENV)
clean:
	@$(CORE)/crm-stack clean --env $(ENV)
.PHONY: up down status clean

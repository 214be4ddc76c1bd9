"""Accounts: which service may do what, in one matrix (`services.yaml`), and the rules of each system derived from it.

Ground floor and pure: nothing here connects to a server. `kafka`, `warehouse` and the embedded stack apply the rules;
`crm generate` writes what Ansible and dbt read.
"""

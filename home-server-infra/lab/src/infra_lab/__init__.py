"""A Proxmox host with its VMs, on one Linux machine: what the playbooks are tried against."""

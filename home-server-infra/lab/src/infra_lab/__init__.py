"""A Proxmox host with its VMs, on one Linux machine: against which the playbooks are tested."""

"""The part of Proxmox VE 8's REST API that community.proxmox 1.4 uses for VMs: checks, messages, tasks.

Error texts are Proxmox's own, since a playbook's reader will meet them on the real host.
"""

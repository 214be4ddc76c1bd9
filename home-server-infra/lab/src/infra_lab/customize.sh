#!/bin/sh
# mmdebstrap runs it on the new root file system ($1): makes it behave as a cloud-init template of Proxmox does.
# Each line that is not obvious is a trap that was stepped into.
set -eu
root=$1

# A template has no identity: host keys and machine id are made at first boot, sources come with the host.
rm -f "$root"/etc/ssh/ssh_host_* "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/* \
    "$root"/etc/apt/apt.conf.d/99mmdebstrap
: >"$root/etc/machine-id"

chroot "$root" systemctl enable systemd-networkd >/dev/null 2>&1
# Timers that fetch packages on their own would hold dpkg's lock under a playbook.
chroot "$root" systemctl disable apt-daily.timer apt-daily-upgrade.timer >/dev/null 2>&1
# There is no terminal to log in at, and a static address needs no waiting for a lease: both would delay the boot.
chroot "$root" systemctl mask systemd-networkd-wait-online.service getty@tty1.service console-getty.service \
    >/dev/null 2>&1

# Only the seed that the lab puts there; asking other data sources waits for addresses that never answer.
cat >"$root/etc/cloud/cloud.cfg.d/99-lab.cfg" <<'EOF'
datasource_list: [NoCloud, None]
system_info:
  network: {renderers: [networkd]}
locale: C.UTF-8
ssh_genkeytypes: [ed25519]
apt: {preserve_sources_list: true}
EOF

# vm.*, fs.* and kernel.* are the machine's, not a namespace's, and /proc/sys is read-only in nspawn: each host gets
# files of its own in their place. Roles can set and read them; the kernel does not follow.
cat >"$root/usr/local/sbin/lab-sysctl" <<'EOF'
#!/bin/sh
for key in vm/swappiness vm/max_map_count vm/dirty_ratio vm/dirty_background_ratio vm/overcommit_memory fs/file-max \
    fs/inotify/max_user_watches fs/inotify/max_user_instances kernel/panic kernel/panic_on_oops; do
    file=/run/lab-sysctl/$key
    mkdir -p "${file%/*}"
    cat "/proc/sys/$key" >"$file" && mount --bind "$file" "/proc/sys/$key"
done
EOF
chmod 755 "$root/usr/local/sbin/lab-sysctl"
cat >"$root/etc/systemd/system/lab-sysctl.service" <<'EOF'
[Unit]
Description=Files in place of the sysctls that no namespace has
ConditionVirtualization=container
DefaultDependencies=no
After=systemd-remount-fs.service
Before=systemd-sysctl.service sysinit.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/lab-sysctl

[Install]
WantedBy=sysinit.target
EOF
chroot "$root" systemctl enable lab-sysctl.service >/dev/null 2>&1

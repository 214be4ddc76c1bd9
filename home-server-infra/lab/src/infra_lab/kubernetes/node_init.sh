#!/bin/bash
# Process 1 of the node, in mount, pid, network, uts and ipc namespaces of its own: node_init.sh RUN_FOLDER NAME.
# Nothing that it sets is seen outside. When it ends, the kernel ends every process of the node.
set -eu
run=$1
name=$2

mount --make-rprivate /
mount -t proc proc /proc
# kubelet and CNI read /sys/class/net: a sysfs of this network, with the machine's cgroups where they were.
mkdir -p "$run/cgroup"
mount --rbind /sys/fs/cgroup "$run/cgroup"
mount -t sysfs sysfs /sys
mount --move "$run/cgroup" /sys/fs/cgroup
# kubelet, containerd and CNI have paths of their own below these.
for folder in /run /var/lib /var/log; do
    mount -t tmpfs tmpfs "$folder"
done
mount --make-rshared /

# kubelet sets these for the whole machine. It finds them as it wants them, in files that only the node sees.
while read -r tunable value; do
    file=/run/tunables/$tunable
    mkdir -p "$(dirname "$file")"
    echo "$value" >"$file"
    mount --bind "$file" "/proc/sys/$tunable"
done <<'END'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END

hostname "$name"
ip link set lo up
# Both belong to this network namespace.
sysctl -qw net.ipv4.ip_forward=1 net.bridge.bridge-nf-call-iptables=1
touch "$run/ready"
trap 'exit 0' TERM
while :; do
    sleep 3600 &
    wait "$!"
done

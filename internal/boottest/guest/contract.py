"""What the contract of a Cluster API node image asks of a running machine."""

import json
import os
import re

from machine import read
from report import Failure
from shell import journal, output, run

PARAMETERS = {
    "net/bridge/bridge-nf-call-iptables": "1",
    "net/bridge/bridge-nf-call-ip6tables": "1",
    "net/ipv4/ip_forward": "1",
    "net/ipv6/conf/all/forwarding": "1",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "vm/overcommit_memory": "1",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
}

# Names of one service in different distributions stand together.
RUNNING = (("containerd",), ("auditd",), ("chrony", "chronyd"))
ABSENT = ("dockerd", "conntrackd", "apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades")


def kernel_parameters(detail):
    wrong = []
    for name, want in PARAMETERS.items():
        path = "/proc/sys/" + name
        have = read(path) if os.path.exists(path) else "absent"
        if have != want:
            wrong.append("%s is %s, not %s" % (name.replace("/", "."), have, want))
    if wrong:
        raise Failure("; ".join(wrong))


def services(detail):
    for names in RUNNING:
        states = [(run("systemctl", "is-enabled", n).stdout.strip(), run("systemctl", "is-active", n).stdout.strip()) for n in names]
        if not any(enabled in ("enabled", "alias") and active == "active" for enabled, active in states):
            raise Failure("%s is %s and %s" % (names[0], *[s or "absent" for s in states[0]]), journal(names[0], 20))
    for name in ABSENT:
        if run("systemctl", "is-active", name).stdout.strip() == "active":
            raise Failure("%s runs" % name)


def kubelet_waiting(detail):
    if run("systemctl", "is-enabled", "kubelet").stdout.strip() != "enabled":
        raise Failure("kubelet is not enabled")
    if os.path.exists("/var/lib/kubelet/config.yaml") or os.path.exists("/etc/kubernetes/kubelet.conf"):
        raise Failure("kubelet has a configuration before kubeadm ran")


def version():
    """The image's Kubernetes version, such as v1.36.3."""
    text = read("/etc/kubernetes-version")
    if not re.fullmatch(r"v\d+\.\d+\.\d+\S*", text):
        raise Failure("/etc/kubernetes-version holds %r" % text)
    return text


def versions(detail):
    want = version()
    have = {
        "kubelet": output("kubelet", "--version").split()[-1],
        "kubeadm": output("kubeadm", "version", "-o", "short").strip(),
        "kubectl": json.loads(output("kubectl", "version", "--client", "-o", "json"))["clientVersion"]["gitVersion"],
    }
    wrong = ["%s is %s" % item for item in have.items() if item[1] != want]
    if wrong:
        raise Failure("the image says %s but %s" % (want, ", ".join(wrong)))
    return want

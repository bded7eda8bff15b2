"""Makes a one-node cluster with kubeadm and proves that it works."""

import calendar
import glob
import json
import os
import re
import sys
import time

import contract
import machine
from report import Failure, Final, wait
from shell import different, journal, output, run, run_shown

HOME = os.path.dirname(os.path.abspath(__file__))
POD_NETWORK = "10.244.0.0/16"
SERVICE_NETWORK = "10.96.0.0/12"
API_SERVICE = "10.96.0.1"
API_NAME = "kubernetes.default.svc.cluster.local"
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
ADDONS = ("kube-proxy", "kube-dns")

# Lines of klog and of etcd's JSON that tell of a failure.
BAD = re.compile(r'^[EF]\d{4} |"level":"(error|fatal|panic)"|^panic: |\[FATAL\]')


def kubeadm_images():
    return set(output("kubeadm", "config", "images", "list", "--kubernetes-version", contract.version()).split())


def node_images():
    """The image names in containerd's store, without those that are digests."""
    return {n for n in output("ctr", "-n", "k8s.io", "images", "list", "-q").split() if "@" not in n and not n.startswith("sha256:")}


def images_match(detail):
    want, have = kubeadm_images(), node_images()
    if have != want:
        raise Failure("missing images: %s; superfluous images: %s" % (
            " ".join(sorted(want - have)) or "none", " ".join(sorted(have - want)) or "none"))
    return sorted(have)


def no_registry(detail):
    """Images can only be pulled from a registry; none must be in reach."""
    hosts = sorted({name.split("/")[0] for name in kubeadm_images()})
    for host in hosts:
        if run(sys.executable, "-c", "import socket,sys; socket.create_connection((sys.argv[1], 443), 5)", host).returncode == 0:
            raise Failure("%s answers: the test machine has a network" % host)
    return " ".join(hosts)


def nothing_pulled(detail, before):
    more = node_images() - set(before)
    if more:
        raise Failure("new images: " + " ".join(sorted(more)))


def bring_up(report):
    report.check("pod-network", "the CNI plugins for a pod network are there", pod_network)
    report.stop_if_failed()
    report.check("kubeadm-init", "kubeadm init makes a cluster", kubeadm_init)
    report.stop_if_failed()


def pod_network(detail):
    """The image ships plugins and no configuration: the user brings a network.

    For one node a bridge does. Nothing outside is to be reached, so pods'
    addresses are not masqueraded; hairpin mode lets a pod reach itself through
    a Service.
    """
    missing = [p for p in ("bridge", "host-local", "loopback", "portmap") if not os.access("/opt/cni/bin/" + p, os.X_OK)]
    if missing:
        raise Failure("not in /opt/cni/bin: " + " ".join(missing))
    os.makedirs("/etc/cni/net.d", exist_ok=True)
    if os.listdir("/etc/cni/net.d"):
        raise Failure("the image ships a pod network already: " + " ".join(os.listdir("/etc/cni/net.d")))
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True,
              "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    with open("/etc/cni/net.d/10-image-builder-test.conflist", "w", encoding="utf-8") as f:
        json.dump({"cniVersion": "1.0.0", "name": "image-builder-test", "plugins": [bridge, portmap]}, f)


def kubeadm_config():
    """Two documents for kubeadm; JSON is YAML. Images must not be pulled, and
    the timeouts allow for a machine that is emulated."""
    group = "kubeadm.k8s.io/v1beta4"
    init = {"apiVersion": group, "kind": "InitConfiguration",
            "localAPIEndpoint": {"advertiseAddress": machine.address()},
            "nodeRegistration": {"criSocket": "unix:///var/run/containerd/containerd.sock", "imagePullPolicy": "Never", "taints": []},
            "timeouts": {"controlPlaneComponentHealthCheck": "10m0s", "kubeletHealthCheck": "6m0s",
                         "kubernetesAPICall": "10m0s", "tlsBootstrap": "6m0s"}}
    # One node elects no leader, and an emulated disk and processor are slow:
    # with the defaults, leases and etcd's heartbeats are lost on a busy host.
    alone = {"extraArgs": [{"name": "leader-elect", "value": "false"}]}
    patient = {"local": {"extraArgs": [{"name": "heartbeat-interval", "value": "1000"}, {"name": "election-timeout", "value": "10000"}]}}
    cluster = {"apiVersion": group, "kind": "ClusterConfiguration", "kubernetesVersion": contract.version(),
               "networking": {"podSubnet": POD_NETWORK, "serviceSubnet": SERVICE_NETWORK},
               "controllerManager": alone, "scheduler": alone, "etcd": patient}
    return json.dumps(init) + "\n---\n" + json.dumps(cluster) + "\n"


def kubeadm_init(detail):
    path, log = os.path.join(HOME, "kubeadm.yaml"), os.path.join(HOME, "kubeadm.log")
    with open(path, "w", encoding="utf-8") as f:
        f.write(kubeadm_config())
    status, lines = run_shown(detail, log, 1800, "kubeadm", "init", "--config", path)
    if status != 0:
        raise Failure("kubeadm init failed with status %s" % status,
                      [line for line in lines if "error" in line.lower()][-8:] + pod_logs() + journal("kubelet", 12) + journal("containerd", 8))
    return "; ".join(line.strip() for line in lines if "[WARNING" in line)


def pod_logs():
    """The last lines of each container of the cluster's own pods; kubelet keeps
    them as time, stream, flag and text. The most recent container comes first."""
    log = []
    for path in sorted(glob.glob("/var/log/pods/*/*/*.log"), key=os.path.getmtime, reverse=True)[:8]:
        lines = [line.split(" ", 3)[-1] for line in machine.read(path).splitlines()[-400:]]
        bad = [line for line in lines if BAD.search(line)]
        log += ["--- log of %s" % "/".join(path.split("/")[-2:])] + different(bad or lines)[-5:]
    return log


def kubectl(*args):
    return json.loads(output("kubectl", *args, "-o", "json"))


def prove(report, when):
    """What must hold of a running cluster, now and after a reboot."""
    report.check("node-ready", when + "the node is Ready", node_ready)
    report.check("pods-ready", when + "control plane, kube-proxy and CoreDNS run", pods_ready)
    report.stop_if_failed()
    report.check("dns-from-node", when + "CoreDNS answers the node over a Service address", service_dns, ())
    report.check("api-from-node", when + "the API answers the node over a Service address", service_api, ())
    report.check("dns-from-pod", when + "CoreDNS answers a pod over a Service address", service_dns, None)
    report.check("api-from-pod", when + "the API answers a pod over a Service address", service_api, None)
    report.stop_if_failed()


def node_ready(detail):
    boot = machine.read("/proc/sys/kernel/random/boot_id")

    def ready():
        node = kubectl("get", "nodes")["items"][0]
        # Until kubelet has reported this boot, a Ready is one from before it.
        if node["status"]["nodeInfo"]["bootID"] != boot:
            raise Failure("kubelet has not reported since the boot")
        conditions = {c["type"]: c for c in node["status"]["conditions"]}
        if conditions["Ready"]["status"] != "True":
            raise Failure("the node is not Ready: " + conditions["Ready"].get("message", ""))
        return "%s, %s" % (node["status"]["nodeInfo"]["kubeletVersion"], node["status"]["nodeInfo"]["containerRuntimeVersion"])

    return explained(lambda: wait("the node is not Ready", 600, ready, detail, pause=3))


def pods_ready(detail):
    def ready():
        pods = kubectl("get", "pods", "-A")["items"]
        for label, names in (("component", COMPONENTS), ("k8s-app", ADDONS)):
            for name in names:
                if not [p for p in pods if p["metadata"].get("labels", {}).get(label) == name]:
                    raise Failure("there is no pod of %s" % name)
        waiting = [w for w in map(why_waiting, pods) if w]
        if waiting:
            raise Failure("%d of %d pods are ready; %s" % (len(pods) - len(waiting), len(pods), ", ".join(waiting[:3])))
        return "%d pods" % len(pods)

    return explained(lambda: wait("the pods are not ready", 600, ready, detail, pause=3))


def why_waiting(pod):
    """Why a pod is not ready since this boot, or None."""
    name, states = pod["metadata"]["name"], pod["status"].get("containerStatuses", [])
    for c in states:
        reason = c["state"].get("waiting", {}).get("reason")
        if reason in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull"):
            raise Final("%s: image %s is not on the node" % (name, c["image"]))
        if reason:
            return "%s: %s" % (name, reason)
        started = c["state"].get("running", {}).get("startedAt")
        if not started or parse_time(started) < machine.boot_time() - 2:
            return "%s: not running" % name
    if pod["status"].get("phase") != "Running" or not states or not all(c["ready"] for c in states):
        return "%s: not ready" % name
    return None


def parse_time(text):
    return calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))


def explained(function):
    """Adds to a Failure what kubelet, containerd and the cluster say."""
    try:
        return function()
    except Failure as err:
        try:
            events = output("kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp").splitlines()[-12:]
        except Failure as other:
            events = [str(other)]
        raise Failure(str(err), err.log[:20] + ["--- events"] + events + pod_logs() + journal("kubelet", 12) + journal("containerd", 8)) from err


def inside_a_pod():
    """The command that enters the network namespace of a CoreDNS pod: its image
    has no shell, so the question is asked with the node's Python."""
    host = os.readlink("/proc/1/ns/net")
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if machine.read("/proc/%s/comm" % pid) == "coredns" and os.readlink("/proc/%s/ns/net" % pid) != host:
                return ("nsenter", "--net=/proc/%s/ns/net" % pid)
        except (Failure, OSError):
            continue  # the process has ended
    raise Failure("no CoreDNS process runs in a pod's network")


def ask(prefix, *question):
    """Asks probe.py, for up to two minutes: kube-proxy may still write rules.
    A prefix of None means from inside a pod."""
    def answer():
        before = inside_a_pod() if prefix is None else prefix
        return output(*before, sys.executable, os.path.join(HOME, "probe.py"), *question).strip()

    return wait("no answer", 120, answer)


def service_dns(detail, prefix):
    server = kubectl("get", "service", "-n", "kube-system", "kube-dns")["spec"]["clusterIP"]
    found = ask(prefix, "dns", server, API_NAME)
    if found != API_SERVICE:
        raise Failure("%s is %s, not %s" % (API_NAME, found or "unknown", API_SERVICE))
    return "%s is %s, says %s" % (API_NAME, found, server)


def service_api(detail, prefix):
    found = ask(prefix, "api", API_SERVICE)
    if found != contract.version():
        raise Failure("https://%s is version %s" % (API_SERVICE, found))
    return found

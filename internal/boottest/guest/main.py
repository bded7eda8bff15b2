"""Runs inside the booted image and proves, step by step, that it works.

cloud-init puts these files into the guest and starts this one as a service, on
the first boot and again after the reboot that the proof makes. What it finds
goes to the host as JSON lines over a virtio port; see report.py.
"""

import json
import os
import subprocess
import sys
import traceback

import cluster
import contract
import machine
from report import Failure, Report

HOME = os.path.dirname(os.path.abspath(__file__))
STATE = os.path.join(HOME, "state.json")
FIRMWARE = {"bios": "the firmware is a BIOS", "uefi": "the firmware is UEFI",
            "secureboot": "the firmware enforces Secure Boot and the kernel is locked down"}


def load(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def save_state(state):
    with open(STATE + ".new", "w", encoding="utf-8") as f:
        json.dump(state, f)
        f.flush()
        os.fsync(f.fileno())
    os.rename(STATE + ".new", STATE)


def machine_checks(report, config):
    """Checks that hold after every boot; all run even if one fails."""
    report.check("boot", "the boot finishes without a failed unit", machine.boot_finished)
    report.check("firmware", FIRMWARE[config["firmware"]], machine.firmware, config["firmware"])
    report.check("root-grew", "the root filesystem fills the disk", machine.root_grew)
    report.check("swap-off", "no swap is in use", machine.swap_off)
    report.check("network", "the network has an address and a default route", machine.network)
    report.check("identity", "the machine has an identity of its own", machine.identity, config["hostname"])
    if config["kubernetes"]:
        report.check("order", "containerd runs before cloud-init's last stage", machine.containerd_first, HOME)
        report.check("services", "the node's services run", contract.services)
        report.check("kernel-parameters", "the kernel has the node's parameters", contract.kernel_parameters)
        report.check("versions", "all binaries have the image's Kubernetes version", contract.versions)


def first_boot(report, config):
    machine_checks(report, config)
    report.stop_if_failed()
    facts = machine.facts()
    report.facts(facts)
    if config["clone"]:
        return
    state = {"facts": facts}
    if config["kubernetes"]:
        report.check("kubelet-waiting", "kubelet is enabled and waits for kubeadm", contract.kubelet_waiting)
        state["images"] = report.check("images", "the images are those that kubeadm lists", cluster.images_match)
        report.check("no-registry", "the registry cannot be reached", cluster.no_registry)
        report.stop_if_failed()
        cluster.bring_up(report)
        cluster.prove(report, "")
        report.check("nothing-pulled", "no image was pulled", cluster.nothing_pulled, state["images"])
        report.stop_if_failed()
    save_state(state)
    report.reboot()
    subprocess.run(["systemctl", "reboot"], check=False)
    sys.exit(0)


def second_boot(report, config, state):
    report.prefix = "rebooted-"
    report.check("boot", "after a reboot, the boot finishes without a failed unit", machine.boot_finished)
    report.check("identity", "after a reboot, the identity is the same", machine.same_identity, state["facts"])
    report.stop_if_failed()
    if config["kubernetes"]:
        cluster.prove(report, "after a reboot, ")
        report.check("nothing-pulled", "after a reboot, no image was pulled", cluster.nothing_pulled, state["images"])


def main():
    config = load(os.path.join(HOME, "config.json"))
    report = Report(config["port"])
    report.hello()
    try:
        if os.path.exists(STATE):
            second_boot(report, config, load(STATE))
        else:
            first_boot(report, config)
    except Failure:
        pass
    except Exception as err:  # the host must learn of a defect of ours as well
        report.send(type="fail", check="guest", text="the guest script broke: %r" % err,
                    log=traceback.format_exc().splitlines())
    report.send(type="done")


if __name__ == "__main__":
    main()

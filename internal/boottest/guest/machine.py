"""What every machine must be after a boot, Kubernetes or not."""

import base64
import glob
import hashlib
import json
import os
import re
import socket
import time

from report import Failure, wait
from shell import journal, output, run


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as f:
            return f.read().strip()
    except OSError as err:
        raise Failure("read %s: %s" % (path, err.strerror)) from err


def boot_finished(detail):
    """Waits until systemd and cloud-init are done."""

    def settled():
        state = run("systemctl", "is-system-running").stdout.strip()
        if state in ("running", "degraded"):
            return state
        jobs = run("systemctl", "list-jobs", "--no-legend").stdout.split("\n")
        raise Failure("the system is %s; waiting for %s" % (state, ", ".join(jobs_of(jobs)) or "systemd"))

    wait("the boot did not finish", 900, settled, detail)
    units = [line.split()[0] for line in output("systemctl", "list-units", "--state=failed", "--no-legend", "--plain").splitlines()]
    if units:
        log = []
        for unit in units[:5]:
            log += journal(unit, 20)
        raise Failure("failed units: " + " ".join(units), log)
    cloud_init()
    return "up after %d s" % float(read("/proc/uptime").split()[0])


def jobs_of(lines):
    return [fields[1] for fields in (line.split() for line in lines) if len(fields) > 3 and fields[3] == "running"][:3]


def cloud_init():
    if not os.path.exists("/usr/bin/cloud-init"):
        raise Failure("cloud-init is not in the image")
    text = run("cloud-init", "status", "--format", "json").stdout
    try:
        status = json.loads(text)
    except ValueError as err:
        raise Failure("'cloud-init status' gives no JSON", text.splitlines()) from err
    if status.get("status") != "done" or status.get("errors"):
        raise Failure("cloud-init is %s" % status.get("status"), [str(e) for e in status.get("errors", [])])


def firmware(detail, want):
    efi = os.path.isdir("/sys/firmware/efi")
    if efi != (want != "bios"):
        raise Failure("the kernel was started by %s" % ("UEFI" if efi else "BIOS"))
    if want != "secureboot":
        return want
    # An EFI variable file holds 4 bytes of attributes, then the value.
    names = glob.glob("/sys/firmware/efi/efivars/SecureBoot-*")
    if not names:
        raise Failure("the firmware has no SecureBoot variable")
    with open(names[0], "rb") as f:
        value = f.read()
    if value[4:5] != b"\x01":
        raise Failure("Secure Boot is not enforced (variable is %s)" % value.hex())
    lockdown = read("/sys/kernel/security/lockdown")
    if "[none]" in lockdown:
        raise Failure("Secure Boot is on but the kernel is not locked down: " + lockdown)
    return "lockdown " + lockdown


def root_grew(detail):
    """The root partition ends at the disk's end and its filesystem fills it."""
    device = os.stat("/").st_dev
    part = os.path.realpath("/sys/dev/block/%d:%d" % (os.major(device), os.minor(device)))
    disk = os.path.dirname(part)
    if not os.path.exists(os.path.join(part, "partition")):
        raise Failure("the root filesystem is not on a partition: " + part)

    def grown():
        start, size, total = (int(read(p)) for p in (part + "/start", part + "/size", disk + "/size"))
        # growpart leaves up to a MiB and the second GPT header at the end.
        if total - start - size > 4096 * 2:
            raise Failure("%s ends %d MiB before the disk does" % (os.path.basename(part), (total - start - size) >> 11))
        fs = os.statvfs("/")
        have = fs.f_blocks * fs.f_frsize
        # ext4's own tables take a few per cent of its partition.
        if have < size * 512 * 0.90:
            raise Failure("the filesystem has %d MiB of the partition's %d" % (have >> 20, size >> 11))
        return "%d MiB" % (have >> 20)

    return wait("the root did not grow", 60, grown)


def swap_off(detail):
    swaps = read("/proc/swaps").splitlines()[1:]
    if swaps:
        raise Failure("swap is on: " + ", ".join(s.split()[0] for s in swaps))


def address():
    """The address that the default route uses; no packet is sent."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        s.connect(("192.0.2.1", 9))
        return s.getsockname()[0]
    except OSError as err:
        raise Failure("no default route: %s" % err.strerror, output("ip", "address").splitlines()) from err
    finally:
        s.close()


def network(detail):
    return wait("no address", 60, address)


def host_keys():
    """Type and SHA-256 fingerprint of each SSH host key, as ssh-keygen shows them."""
    keys = []
    for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub")):
        kind, blob = read(path).split()[:2]
        digest = hashlib.sha256(base64.b64decode(blob)).digest()
        keys.append("%s SHA256:%s" % (kind, base64.b64encode(digest).decode().rstrip("=")))
    return keys


def facts():
    return {"machine-id": read("/etc/machine-id"), "host-keys": "\n".join(host_keys()),
            "hostname": socket.gethostname(), "kernel": os.uname().release}


def identity(detail, hostname):
    now = facts()
    if not re.fullmatch("[0-9a-f]{32}", now["machine-id"]):
        raise Failure("/etc/machine-id holds %r" % now["machine-id"])
    if not now["host-keys"]:
        raise Failure("there are no SSH host keys")
    if now["hostname"].split(".")[0] != hostname:
        raise Failure("the host name is %s, not %s as the seed says" % (now["hostname"], hostname))
    return "machine-id " + now["machine-id"]


def same_identity(detail, before):
    now = facts()
    for name in ("machine-id", "host-keys", "hostname"):
        if now[name] != before[name]:
            raise Failure("%s was %s and is %s now" % (name, before[name], now[name]))


def containerd_first(detail, home):
    """The seed's runcmd has noted containerd's state when it ran."""
    state = read(os.path.join(home, "containerd-at-runcmd"))
    if state != "active":
        raise Failure("containerd was %s when cloud-init ran its commands" % state, journal("containerd", 20))


def boot_time():
    """When this boot began, in seconds since 1970."""
    return time.time() - float(read("/proc/uptime").split()[0])

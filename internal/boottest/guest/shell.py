"""Runs commands in the guest."""

import re
import subprocess

from report import Failure, wait

ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/bin",
       "LC_ALL": "C.UTF-8", "HOME": "/root", "SYSTEMD_COLORS": "0",
       "KUBECONFIG": "/etc/kubernetes/admin.conf"}


def run(*args, timeout=120):
    """Returns a finished command; never raises for its exit status."""
    try:
        return subprocess.run(args, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, errors="replace", timeout=timeout, check=False)
    except FileNotFoundError as err:
        raise Failure("%s is not in the image" % args[0]) from err
    except subprocess.TimeoutExpired as err:
        raise Failure("'%s' did not end within %d s" % (" ".join(args), timeout)) from err


def output(*args, timeout=120):
    """Returns a command's standard output, or raises Failure with its output."""
    done = run(*args, timeout=timeout)
    if done.returncode != 0:
        raise Failure("'%s' failed with status %d" % (" ".join(args), done.returncode),
                      (done.stdout + done.stderr).splitlines())
    return done.stdout


def run_shown(detail, log, timeout, *args):
    """Runs a long command and tells detail its last line from time to time.

    Its output goes to the file log. Returns its status, "none" if it had to be
    ended after timeout seconds, and the lines of its output.
    """
    with open(log, "wb") as out:
        process = subprocess.Popen(args, env=ENV, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)

    def lines():
        with open(log, encoding="utf-8", errors="replace") as f:
            return f.read().splitlines()

    def ended():
        if process.poll() is None:
            raise Failure((lines() or [args[0]])[-1])
        return True

    try:
        wait("", timeout, ended, detail)
    except Failure:
        process.kill()
        process.wait()
        return "none", lines()
    return process.returncode, lines()


def journal(unit, lines):
    """Returns the last different lines of a unit's journal of this boot."""
    try:
        text = run("journalctl", "-b", "-u", unit, "-n", "400", "--no-pager", "-o", "cat").stdout
    except Failure as err:
        text = str(err)
    return ["--- journal of %s" % unit] + different(text.splitlines())[-lines:]


# What differs between two klog lines that say the same: time and process.
STAMP = re.compile(r"^[EWIF]\d{4} [\d:.]+ +\d+ ")


def different(lines):
    """Drops lines that were said before, and cuts long ones."""
    seen, kept = set(), []
    for line in lines:
        text = STAMP.sub("", line)[:300]
        if text and text[:120] not in seen:
            seen.add(text[:120])
            kept.append(text)
    return kept

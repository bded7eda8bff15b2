"""The guest's end of the channel to the host: one JSON object a line.

Types: hello, start, detail, pass, fail (with a log), fact, reboot, done.
"""

import json
import time


class Failure(Exception):
    """A check that does not hold: why, and the log lines that matter."""

    def __init__(self, why, log=()):
        super().__init__(why)
        self.log = list(log)


class Final(Failure):
    """A Failure that waiting will not mend."""


class Report:
    def __init__(self, port):
        self.prefix = ""
        self.failed = False
        self.port = self._open(port)

    @staticmethod
    def _open(port):
        deadline = time.monotonic() + 120
        while True:
            try:
                return open(port, "wb", buffering=0)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def send(self, **message):
        data = json.dumps(message).encode("ascii") + b"\n"
        while data:
            data = data[self.port.write(data):]

    def hello(self):
        self.send(type="hello")

    def reboot(self):
        self.send(type="reboot")

    def detail(self, text):
        self.send(type="detail", text=text)

    def facts(self, facts):
        for name, value in facts.items():
            self.send(type="fact", name=name, text=value)

    def check(self, name, text, function, *args):
        """Runs one check; returns what it returned, or None when it failed.

        function takes a callable for progress, then args. It returns a short
        text for the record or a list, or raises Failure.
        """
        name = self.prefix + name
        self.send(type="start", check=name, text=text)
        try:
            result = function(self.detail, *args)
        except Failure as err:
            self.failed = True
            self.send(type="fail", check=name, text=str(err), log=err.log[:200])
            return None
        self.send(type="pass", check=name, text=result if isinstance(result, str) else "")
        return result

    def stop_if_failed(self):
        if self.failed:
            raise Failure("stopped")


def wait(why, seconds, function, detail=None, pause=2.0):
    """Calls function until it returns something true and returns that.

    function may return None or raise Failure to be tried again; at the deadline
    its last Failure is raised. detail is told the last reason at most every
    15 seconds, which also shows the host that the guest is alive.
    """
    deadline = time.monotonic() + seconds
    told, last = 0.0, Failure(why)
    while True:
        try:
            result = function()
            if result:
                return result
        except Final:
            raise
        except Failure as err:
            last = err
        now = time.monotonic()
        if now > deadline:
            raise Failure("%s (waited %d s)" % (last, seconds), last.log)
        if detail and now - told > 15:
            told = now
            detail(str(last))
        time.sleep(pause)

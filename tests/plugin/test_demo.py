"""What the command of the demo does beside playing it; the demo itself is played in tests/story."""

import subprocess
import sys

PLAYED = """
import sys, time
from inzitu import cli
from inzitu.demo import road

def play(directory, *, serve):
    try:
        print("up", flush=True)
        time.sleep(60)
    finally:
        print("service ended", flush=True)

road.play, sys.argv = play, ["inzitu", "demo", "--serve"]
cli.main()
"""


def test_a_demo_that_is_terminated_ends_its_service() -> None:
    with subprocess.Popen([sys.executable, "-c", PLAYED], stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        assert demo.stdout.readline() == "up\n"
        demo.terminate()
        said, _ = demo.communicate(timeout=30)
    assert (said, demo.returncode) == ("service ended\n", 143)

"""A machine stands still for two minutes and goes on where it was: a virtual machine that moved, or one that swapped."""
import time

import silence, workload


def run(failing, nodes, work):
    node, clock = nodes[failing], workload.Clock()
    node.freeze()
    try:
        before = silence.wait_for_silence(failing, work, clock)
        time.sleep(max(0, 120 - clock.seconds()))
        silence.same_db(work, before)
    finally:
        node.thaw()
    silence.wait_for_return(failing, work, workload.Clock(), before)
    work.settle()

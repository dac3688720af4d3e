"""A node that is not heard of: what the cluster sees of it, and when."""
import workload

# upstream's defaults: a lease that is 50 s old is too old, looked at every 5 s; the first look of some finds a lease that is just renewed
GRACE, LOOK = 50, 5


def wait_for_silence(name, work, clock):
    """Waits until the node counts as silent and its pods have left it; returns what db's pod was."""
    world = work.world
    before = work.db()
    world.until(f"{name} is Unknown", lambda: work.state(name) == "Unknown", GRACE + 6 * LOOK)
    world.step(f"{name} is Unknown after {clock}")
    world.until("it is tainted", lambda: {("unreachable", "NoExecute"), ("unreachable", "NoSchedule")} <= work.taints(name), 30)
    world.until("its pods are not ready for Services", lambda: not any(map(workload.ready, work.on(name, "web"))), 30)
    world.until("its pods are on their way out", lambda: all("deletionTimestamp" in pod["metadata"] for pod in work.on(name, "web")),
                workload.TOLERATED + 4 * LOOK)
    world.until("others do their work", lambda: sum(map(workload.ready, work.pods("web"))) == 6, 60)
    world.step(f"its pods of a Deployment are replaced after {clock}")
    leaving = lambda app: all("deletionTimestamp" in pod["metadata"] for pod in work.on(name, app))
    world.until("its pods of other kinds are on their way out", lambda: leaving("each") and leaving("db"), 30)
    same_db(work, before)
    return before


def same_db(work, before):
    """Nobody may start db-0 elsewhere while its node may still run it."""
    now = work.db()
    work.world.same("the pod db-0", now and now["metadata"]["uid"], before["metadata"]["uid"])
    work.world.same("db-0 is on its way out", "deletionTimestamp" in now["metadata"], True)


def wait_for_return(name, work, clock, before):
    """Waits until a node that is back has done what it missed."""
    world = work.world
    world.until(f"{name} is Ready", lambda: work.state(name) == "True", 60)
    world.until("it has no taints", lambda: not work.taints(name), 30)
    world.step(f"{name} is Ready without taints {clock} after its return")
    uid = before["metadata"]["uid"]
    world.until("the old db-0 is gone", lambda: (work.db() or {"metadata": {"uid": ""}})["metadata"]["uid"] != uid, 60)
    world.until("a new db-0 is ready", lambda: work.db() and workload.ready(work.db()), 60)
    world.step(f"db-0 is made anew {clock} after its return")

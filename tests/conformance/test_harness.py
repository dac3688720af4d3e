"""The suite's own pure parts. python3 -m unittest discover -s tests/conformance"""
import os, tempfile, unittest
from unittest import mock

import api, progress, report, results

FAILED = """SS•S••SSS
------------------------------
• [FAILED] [3.814 seconds]
[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] [It] should be able to deny pod [Conformance] [sig-api-machinery, Conformance]
/root/webhook.go:198

  Timeline >>
------------------------------
S•"""


def spec(name, state="passed", seconds=1.0):
    return {"name": name, "state": state, "seconds": seconds}


class Harness(unittest.TestCase):
    def test_progress_counts_what_ended_and_names_each_failure_once(self):
        name = "[sig-api-machinery] AdmissionWebhook [Privileged:ClusterAdmin] should be able to deny pod [Conformance]"
        with tempfile.NamedTemporaryFile("w") as log, mock.patch("builtins.print"):
            seen = progress.Progress([name[:40], name])
            # the name of the failure has not been written yet
            log.write(FAILED[:60])
            log.flush()
            self.assertEqual(seen.read(log.name), [])
            log.write(FAILED[60:])
            log.flush()
            self.assertEqual(seen.read(log.name), [name])
            self.assertEqual(seen.read(log.name), [])
            self.assertEqual(seen.logs[log.name][1], 5)

    def test_a_test_that_fails_in_one_of_three_runs_is_flaky_and_has_not_passed(self):
        runs = [[spec("a"), spec("b", seconds=2)], [spec("a", "failed"), spec("b", seconds=5)], [spec("a"), spec("b")]]
        merged = results.merge(runs)
        self.assertEqual([(s["name"], s["state"], s["flaky"], s["seconds"]) for s in merged], [("a", "failed", True, 1.0), ("b", "passed", False, 5)])

    def test_the_page_says_what_each_run_on_one_cluster_left(self):
        side = lambda mib: {"processes": {"skiff": {"pss": mib << 10, "anonymous": 0, "files": 1}}, "disk": {}, "counts": dict.fromkeys(("processes", "mounts", "cgroups", "links"), 1)}
        run = lambda cluster, *sizes: {"cluster": cluster, "holds": [side(mib) for mib in sizes]}
        lines = report.held([run("a", 90, 91, 92), run("b", 1, 2, 3), run("b", 3, 4, 5)])
        self.assertEqual(lines[3], "| | before | after run 1 | compacted | after run 2 | compacted |")
        self.assertEqual(lines[5], "| memory of all processes, PSS | 1 MiB | 2 MiB | 3 MiB | 4 MiB | 5 MiB |")
        self.assertEqual(report.held([run("b", 1, 2, 3), run("b", 3, 4)]), [])

    def test_what_was_wanted_and_did_not_run_is_named(self):
        found = results.complete([spec("a")], [("b", "serial"), ("a", "parallel")])
        self.assertEqual([(s["name"], s["state"]) for s in found], [("b", "not run"), ("a", "passed")])

    def test_steps_stand_in_the_output_where_they_happened(self):
        by = {"SpecEventType": "By", "Message": "second step", "TimelineLocation": {"Offset": 6, "Time": "2026-11-21T15:57:17.654Z"}}
        found = results.output({
            "ContainerHierarchyTexts": ["[sig-x]"], "LeafNodeText": "works", "CapturedGinkgoWriterOutput": "first\nthird\n", "SpecEvents": [by],
            "Failure": {"Message": "no", "Location": {"FileName": "f.go", "LineNumber": 7}},
        })
        self.assertTrue(found.startswith("[sig-x] works\nfirst\nSTEP: second step 15:57:17.654\nthird\n\n[FAILED] no\n"), found)

    def test_a_sample_fits_its_time_and_differs_by_commit(self):
        known = {f"test {n}": 20.0 for n in range(200)} | {f"test {n} [Serial]": 30.0 for n in range(50)} | {"long": 500.0}
        with mock.patch.object(report, "read_list", return_value=(known, "")):
            chosen = report.sample(360, 6, "a")
            self.assertEqual(chosen, report.sample(360, 6, "a"))
            self.assertNotEqual(chosen, report.sample(360, 6, "b"))
        takes = sum(known[n] * (1 if "[Serial]" in n else 1 / 6) for n in chosen) * report.SLOWER
        self.assertTrue(300 < takes < 361, takes)
        self.assertNotIn("long", chosen)

    def test_a_sample_has_nothing_that_one_node_cannot_pass(self):
        impossible = set(report.read_reasons())
        self.assertTrue(impossible)
        for seed in range(50):
            self.assertFalse(impossible & set(report.sample(3600, 6, str(seed))))

    def test_a_list_names_a_test_without_the_tags_that_versions_change(self):
        old = "[sig-apps] Daemon set [Serial] should run [LinuxOnly] and stop [Conformance]"
        new = "[sig-apps] Daemon set [NodeConformance] should run and [Slow] stop [Conformance] [Serial]"
        self.assertEqual(results.key(old), "[sig-apps] Daemon set should run and stop [Serial]")
        self.assertEqual(results.key(new), results.key(old))
        self.assertEqual(results.key(results.key(old)), results.key(old))
        for name in (old, new):
            self.assertRegex(name, results.pattern(results.key(old)))
        self.assertNotRegex(old + " twice", results.pattern(results.key(old)))

    def test_a_list_of_passing_tests_reads_as_it_was_written(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "passing.txt")
            report.write_list(path, {"b": 2.0, "a": 31.4}, "2026-11-21")
            with open(path) as f:
                self.assertEqual(f.read(), "# 2026-11-21\na\t31\nb\t2\n")
            self.assertEqual(report.read_list(path), ({"a": 31.0, "b": 2.0}, "2026-11-21"))

    def test_yaml_nests_lists_and_maps_and_leaves_out_who_set_what(self):
        thing = {"metadata": {"managedFields": [1], "labels": {"a/b": "yes"}}, "items": [{"n": 1, "m": [2]}, "x", {}]}
        self.assertEqual(api.yaml(thing), 'metadata:\n  labels:\n    "a/b": "yes"\nitems:\n  - n: 1\n    m:\n      - 2\n  - "x"\n  - {}\n')


if __name__ == "__main__":
    unittest.main()

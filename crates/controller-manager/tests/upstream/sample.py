"""Picks the cases of record.sh that are kept: of the different ones of each function so many.

    record.sh DIR | sample.py > autoscaler.jsonl
"""
import json
import re
import sys
from collections import defaultdict

MOST = {"reconcile": 60}
OTHERS = 12


def slim(value):
    """Without what is empty and what has no part in a decision."""
    if isinstance(value, dict):
        made = {key: slim(one) for key, one in value.items() if key not in ("creationTimestamp", "managedFields")}
        return {key: one for key, one in made.items() if one is not None}
    return [slim(one) for one in value] if isinstance(value, list) else value


def look(case):
    """What makes a case like another one: all but its times."""
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "", json.dumps(case, sort_keys=True))


seen, cases = set(), defaultdict(list)
for line in sys.stdin:
    case = json.loads(line)
    if look(case) not in seen:
        seen.add(look(case))
        cases[case["fn"]].append(case)
for fn in sorted(cases):
    most, of = MOST.get(fn, OTHERS), cases[fn]
    for at in range(min(most, len(of))):
        # from everywhere among them
        print(json.dumps(slim(of[at * len(of) // min(most, len(of))]), separators=(",", ":"), sort_keys=True))

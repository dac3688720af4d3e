#!/usr/bin/env bash
# Prints what upstream's horizontal pod autoscaler decides while its own tests run, and what it decides of random cases, a line of JSON each: a copy
# of its package gets a recorder.
#   record.sh DIR    DIR is a folder for the copy
set -euo pipefail
export CGO_ENABLED=0 GOWORK=off
here=$(cd "$(dirname "$0")" && pwd)
conformance=$(cd "$here/../../../../tests/conformance" && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd)
source=$(cd "$conformance" && go mod download k8s.io/kubernetes >&2 && go list -m -f '{{.Dir}}' k8s.io/kubernetes)/pkg/controller/podautoscaler
cp "$conformance/go.mod" "$conformance/go.sum" "$out"
cd "$out"
rm -rf podautoscaler recordings
mkdir podautoscaler
cp --no-preserve=mode "$source"/*.go podautoscaler
cp "$here/recorder.go.txt" podautoscaler/recorder.go
cp "$here/random_test.go.txt" podautoscaler/random_test.go
python3 - <<'PYTHON'
import re
METHODS = {
    "replica_calculator.go": ["GetResourceReplicas", "GetRawResourceReplicas", "GetMetricReplicas", "GetObjectMetricReplicas", "GetExternalMetricReplicas",
                              "GetObjectPerPodMetricReplicas", "GetExternalPerPodMetricReplicas", "groupPods", "calculateRequests"],
    "horizontal.go": ["stabilizeRecommendation", "stabilizeRecommendationWithBehaviors", "convertDesiredReplicasWithBehaviorRate", "convertDesiredReplicasWithRules",
                      "calculateScaleUpLimitWithScalingRules", "calculateScaleDownLimitWithBehaviors", "updateStatusIfNeeded", "reconcileAutoscaler"],
}
for file, names in METHODS.items():
    with open(f"podautoscaler/{file}") as f:
        text = f.read()
    for name in names:
        text, changed = re.subn(rf"^(func (?:\(\w+ \*\w+\) )?){name}\(", lambda m: f"{m[1]}inner{name[0].upper()}{name[1:]}(", text, flags=re.M)
        assert changed == 1, name
    with open(f"podautoscaler/{file}", "w") as f:
        f.write(text)
# limits as they are, and not as its tests have them
path = "podautoscaler/horizontal_test.go"
with open(path) as f:
    text = f.read()
assert text.count("scaleUpLimitFactor = 8") == 1
with open(path, "w") as f:
    f.write(text.replace("scaleUpLimitFactor = 8", "scaleUpLimitFactor = 2"))
PYTHON
# what the tests say of themselves is no matter here
RECORDINGS=$out/recordings go test -mod=mod -vet=off -count=1 -run "${RUN:-^Test}" ./podautoscaler >tests.log 2>&1 || true
[ -s recordings ] || { tail -20 tests.log >&2; exit 1; }
cat recordings

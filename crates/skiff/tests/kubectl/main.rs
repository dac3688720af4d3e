//! `skiff kubectl` and upstream's kubectl say the same to the same server: output, complaints and exit code.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../server/common.rs"]
mod common;
mod compare;

use compare::Both;

const MANIFEST: &str = include_str!("manifest.yaml");

#[test]
fn what_is_shown_is_the_same() {
    let both = Both::start(&["--disable-agent", "--disable-scheduler", "--disable-controller-manager"]);
    both.write("m.yaml", MANIFEST);
    both.server.ok(&["apply", "-f", &both.path("m.yaml")]);
    for line in [
        "get ns",
        "get all",
        "get all -A -o wide",
        "get deploy,svc,cm -A",
        "get deploy web -o yaml",
        "get deploy web -o json",
        "get deploy/web svc/web -o name",
        "get deploy web nope",
        "get cm -A --show-labels",
        "get svc -L app --no-headers",
        "get svc --sort-by=.metadata.name",
        "get svc -o jsonpath={.items[*].spec.ports[*].port}",
        "get svc -o custom-columns=NAME:.metadata.name,IP:.spec.clusterIP,NO:.x",
        "get pods",
        "get pods -n kube-system -l a=b",
        "get pods --field-selector=foo=bar",
        "get clusterroles",
        "get --raw /version",
        "get -f m.yaml -o name",
        "get ev",
        "get nope",
        "get",
        "get pods -o nope",
        "get pods --nope",
        "get pods -o",
        "get pods --context=nope",
        "get pods --kubeconfig=/nope",
        "get pods --as=nobody",
        "nope",
        "gett",
        "describe deploy web",
        "describe svc web",
        "describe cm conf",
        "describe secret hidden",
        "describe ns default",
        "describe sa default",
        "describe node nope",
        "describe lease -A",
        "describe",
        "explain deploy.spec.strategy",
        "explain pod --recursive",
        "explain pod.nope",
        "api-resources",
        "api-resources -o wide --sort-by=kind",
        "api-resources -o name --namespaced=false",
        "api-versions",
        "cluster-info",
        "auth can-i get pods",
        "auth can-i get nodes",
        "auth can-i foo pods",
        "auth can-i get pods --as=nobody",
        "auth can-i --list --as=nobody",
        "auth whoami",
        "top pods",
        "completion nope",
        "config view",
        "config get-contexts",
        "config current-context",
        "config use-context nope",
        "rollout status deploy/web --watch=false",
        "rollout history deploy/web",
        "rollout status sa/default",
        "logs nope",
        "logs",
        "exec nope -- ls",
        "exec nope ls",
        "port-forward nope 80",
        "cp a b",
        "cordon",
        "taint nodes nope a=b",
        "wait deploy/web --for=condition=Available --timeout=0",
        "wait cm/conf --for=jsonpath={.data.k}=v",
        "diff -f m.yaml",
        "version -o nope",
    ] {
        both.same(line);
    }
}

/// Each program has a namespace of its own; what they say differs in nothing else.
#[test]
fn what_is_changed_is_told_the_same() {
    let both = Both::start(&["--disable-agent", "--disable-scheduler"]);
    both.write("m.yaml", MANIFEST);
    both.write(
        "m2.yaml",
        &MANIFEST.replace("nginx:1", "nginx:2").replace("k: v", "l: w"),
    );
    both.write("env", "a=b\n");
    for line in [
        "apply -f m.yaml",
        "apply -f m.yaml",
        "apply -f m2.yaml",
        "apply -f m2.yaml --dry-run=client",
        "apply -f m2.yaml -o name",
        "get deploy,cm -o yaml",
        "apply view-last-applied deploy web",
        "apply -f m.yaml --server-side",
        "apply -f m.yaml --server-side --force-conflicts",
        "apply -f m.yaml --force-conflicts",
        "apply -f nope",
        "apply",
        "diff -f m.yaml",
        "create -f m.yaml",
        "create deployment x --image=nginx --replicas=2 -o yaml --dry-run=client -- a b",
        "create deployment x",
        "create configmap a --from-literal=k=v --from-file=env -o yaml",
        "create cm b --from-env-file=env",
        "create cm b",
        "create secret generic s --from-literal=p=q -o yaml",
        "create sa robot",
        "create svc clusterip s --tcp=80:8080 -o yaml --dry-run=client",
        "create role r --verb=get,list --resource=pods,deploy.apps",
        "create rolebinding rb --role=r --user=x --serviceaccount=a:b -o yaml",
        "create job j --image=busybox -- echo hi",
        "create cronjob cj --image=a --schedule=@daily",
        "create quota q --hard=pods=10 -o yaml",
        "create ingress i --rule=a.b/x*=svc:80,tls=t -o yaml",
        "create token nope",
        "create nope",
        "run p --image=busybox --env=A=b --port=80 --dry-run=client -o yaml -- a",
        "run p",
        "expose deploy web --port=80 --name=w2",
        "expose deploy web",
        "label cm a x=y",
        "label cm a x=z",
        "label cm a x=z --overwrite",
        "label cm a x-",
        "label cm a",
        "annotate cm a n=1",
        "annotate cm a n=2",
        "scale deploy web --replicas=3",
        "scale deploy web --replicas=2 --current-replicas=9",
        "scale deploy web",
        "patch deploy web -p {\"spec\":{\"replicas\":1}}",
        "patch deploy web -p {\"spec\":{\"replicas\":1}}",
        "patch cm a --type=json -p [{\"op\":\"remove\",\"path\":\"/data/nope\"}]",
        "set image deploy/web c=nginx:3",
        "set image deploy/web nope=nginx:3",
        "set env deploy/web A=b",
        "rollout pause deploy/web",
        "rollout pause deploy/web",
        "rollout resume deploy/web",
        "rollout restart deploy/web",
        "rollout undo deploy/web --to-revision=99",
        "wait cm/a --for=create",
        "wait cm/nope --for=delete",
        "wait cm/a --for=nope",
        "replace -f m.yaml",
        "delete cm a nope",
        "delete cm a --ignore-not-found",
        "delete cm -l no=no",
        "delete deploy",
        "delete sa robot --dry-run=server",
        "delete job j --cascade=orphan -o name",
        "delete -f m.yaml",
    ] {
        both.same_apart(line);
    }
}

//! Rules of probes and lifecycle handlers.

use crate::kinds::pod_template::Pod;
use crate::kinds::rules::{non_negative, port_or_name};
use crate::kinds::{Cursor, Errors};

/// Lifecycle and the three probes of a container that keeps running.
pub fn all(errors: &mut Errors, container: &Cursor, pod: &Pod) {
    let lifecycle = container.get("lifecycle");
    for hook in ["postStart", "preStop"] {
        if let Some(at) = lifecycle.get(hook).present() {
            handler(errors, &at, &["exec", "httpGet", "tcpSocket", "sleep"], pod);
        }
    }
    if let Some(at) = lifecycle.get("stopSignal").present() {
        stop_signal(errors, &at, pod);
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(probe) = container.get(name).present() else {
            continue;
        };
        handler(errors, &probe, &["exec", "httpGet", "tcpSocket", "grpc"], pod);
        for field in [
            "initialDelaySeconds",
            "timeoutSeconds",
            "periodSeconds",
            "successThreshold",
            "failureThreshold",
        ] {
            non_negative(errors, &probe.get(field));
        }
        let grace = probe.get("terminationGracePeriodSeconds");
        if grace.int().is_some_and(|n| n <= 0) {
            errors.push(grace.invalid("must be greater than 0"));
        }
        let threshold = probe.get("successThreshold");
        if name == "readinessProbe" {
            if grace.is_some() {
                errors.push(grace.invalid("must not be set for readinessProbes"));
            }
        } else if threshold.int().unwrap_or(0) != 1 {
            errors.push(threshold.wrong(threshold.int().unwrap_or(0), "must be 1"));
        }
    }
}

fn handler(errors: &mut Errors, at: &Cursor, kinds: &[&'static str], pod: &Pod) {
    let mut found = false;
    for kind in kinds {
        let Some(action) = at.get(kind).present() else { continue };
        if found {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        found = true;
        match *kind {
            "exec" => {
                let command = action.get("command");
                if command.list().is_empty() {
                    errors.push(command.required(""));
                }
            }
            "httpGet" => http_get(errors, &action),
            "sleep" => {
                let seconds = action.get("seconds").int().unwrap_or(0);
                if let Some(grace) = pod.spec.get("terminationGracePeriodSeconds").int()
                    && !(0..=grace).contains(&seconds)
                {
                    let why = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                    errors.push(action.wrong(seconds, why));
                }
            }
            _ => port_or_name(errors, &action.get("port")),
        }
    }
    if !found {
        errors.push(at.required("must specify a handler type"));
    }
}

fn http_get(errors: &mut Errors, action: &Cursor) {
    let path = action.get("path");
    if path.text().is_empty() {
        errors.push(path.required(""));
    }
    port_or_name(errors, &action.get("port"));
    let scheme = action.get("scheme");
    if !matches!(scheme.text(), "HTTP" | "HTTPS") {
        errors.push(scheme.not_supported(&["HTTP", "HTTPS"]));
    }
    let headers = action.get("httpHeaders");
    for header in headers.items() {
        let name = header.get("name").text();
        if name.is_empty() || !name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
            let why = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex \
                       used for validation is '[-A-Za-z0-9]+')";
            errors.push(headers.wrong(name, why));
        }
    }
}

const SIGNALS: [&str; 65] = [
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMAX-1",
    "SIGRTMAX-10",
    "SIGRTMAX-11",
    "SIGRTMAX-12",
    "SIGRTMAX-13",
    "SIGRTMAX-14",
    "SIGRTMAX-2",
    "SIGRTMAX-3",
    "SIGRTMAX-4",
    "SIGRTMAX-5",
    "SIGRTMAX-6",
    "SIGRTMAX-7",
    "SIGRTMAX-8",
    "SIGRTMAX-9",
    "SIGRTMIN",
    "SIGRTMIN+1",
    "SIGRTMIN+10",
    "SIGRTMIN+11",
    "SIGRTMIN+12",
    "SIGRTMIN+13",
    "SIGRTMIN+14",
    "SIGRTMIN+15",
    "SIGRTMIN+2",
    "SIGRTMIN+3",
    "SIGRTMIN+4",
    "SIGRTMIN+5",
    "SIGRTMIN+6",
    "SIGRTMIN+7",
    "SIGRTMIN+8",
    "SIGRTMIN+9",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

fn stop_signal(errors: &mut Errors, at: &Cursor, pod: &Pod) {
    let supported: &[&str] = match pod.spec.at(&["os", "name"]).text() {
        "linux" => &SIGNALS,
        "windows" => &["SIGKILL", "SIGTERM"],
        "" => {
            errors.push(at.forbidden("may not be set for containers with empty `spec.os.name`"));
            return;
        }
        _ => return,
    };
    if !supported.contains(&at.text()) {
        errors.push(at.not_supported(supported));
    }
}

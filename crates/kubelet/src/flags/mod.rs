//! The kubelet's flags that are fields of its configuration file, by one table: each is in effect, holds what cannot be changed,
//! or is refused. A flag that is not in it is unknown.

mod table;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value};

use crate::ConfigError;
use table::As::{self, Bool, List, Map as Pairs, Number, Text};
use table::Effect::{self, Field, Only, Refused};
use table::FLAGS;

/// The flags that were given, in their order.
#[derive(Debug, Default)]
pub struct FieldFlags {
    given: Vec<(&'static str, Effect, String)>,
}

impl FieldFlags {
    /// The configuration file that says the same.
    ///
    /// # Errors
    /// For flags whose value is not of their kind, and for what is refused.
    pub(crate) fn to_file(&self) -> Result<Value, ConfigError> {
        let mut tree = Value::Object(Map::new());
        for (name, effect, text) in &self.given {
            let bad = |why: &str| ConfigError::Flag {
                flag: name,
                value: text.clone(),
                why: why.to_owned(),
            };
            match effect {
                Field(path, kind) => {
                    let value = kind.read(text).ok_or_else(|| bad(kind.wants()))?;
                    let place = path.split('.').fold(&mut tree, |at, key| &mut at[key]);
                    *place = value;
                }
                Only(value, _) if value == text => {}
                Only(value, why) => return Err(bad(&format!("only {value} is supported: {why}"))),
                Refused(why) => return Err(bad(&format!("not supported: {why}"))),
            }
        }
        Ok(tree)
    }
}

impl As {
    fn read(self, text: &str) -> Option<Value> {
        let words = || text.split(',').map(str::trim).filter(|w| !w.is_empty());
        Some(match self {
            Text => text.into(),
            Number => text.parse::<i64>().ok()?.into(),
            // what Go takes
            Bool => match text {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true.into(),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => false.into(),
                _ => return None,
            },
            List => words().collect::<Vec<_>>().into(),
            Pairs(sign) => {
                let pairs = words().map(|w| w.split_once(sign).map(|(k, v)| (k.trim().to_owned(), v.trim().into())));
                Value::Object(pairs.collect::<Option<Map<String, Value>>>()?)
            }
        })
    }

    fn wants(self) -> &'static str {
        match self {
            Text => "is not text",
            Number => "is not a number",
            Bool => "is neither true nor false",
            List => "is not a list",
            Pairs('<') => "is not signal<amount",
            Pairs(_) => "is not name=amount",
        }
    }
}

impl clap::FromArgMatches for FieldFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = FieldFlags::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for (name, effect, _) in FLAGS {
            // of what is given several times the last holds, but lists are put together
            let values = matches.get_many::<String>(name).into_iter().flatten();
            let joins = matches!(effect, Field(_, List | Pairs(_)));
            let text = match joins {
                true => values.cloned().reduce(|all, one| format!("{all},{one}")),
                false => values.last().cloned(),
            };
            self.given.extend(text.map(|text| (name, effect, text)));
        }
        Ok(())
    }
}

impl clap::Args for FieldFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, (name, effect, help)| {
            let arg = Arg::new(*name).long(*name).help(*help).action(ArgAction::Append);
            let switch = match effect {
                Field(_, Bool) => true,
                Only(value, _) => matches!(*value, "true" | "false"),
                _ => false,
            };
            let arg = match switch {
                true => arg.num_args(0..=1).require_equals(true).default_missing_value("true"),
                false => arg.allow_hyphen_values(true),
            };
            command.arg(arg.hide(help.is_empty()))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::KubeletConfig;
    use crate::command::Settings;
    use clap::Parser;

    fn config(flags: &[&str]) -> Result<KubeletConfig, String> {
        let mut config = KubeletConfig::new("n");
        let settings = Settings::try_parse_from(flags).map_err(|e| e.to_string())?;
        settings.apply(&mut config).map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn a_flag_is_in_effect_as_its_field_is() {
        let set = config(&[
            "--pod-max-pids=99",
            "--seccomp-default",
            "--streaming-connection-idle-timeout=5m",
            "--event-qps=7",
            "--anonymous-auth=true",
            "--authorization-mode=AlwaysAllow",
            "--max-pods",
            "12",
            "--eviction-hard=memory.available<5%",
            "--eviction-hard=nodefs.available<1Gi",
            "--kube-reserved=cpu=100m",
            "--cluster-dns=10.0.0.1,10.0.0.2",
            "--tls-min-version=VersionTLS13",
            "--read-only-port=0",
            "--rotate-certificates=false",
            "--image-gc-high-threshold=70",
            "--image-gc-low-threshold=60",
            "--minimum-image-ttl-duration=1h",
            "--eviction-soft=memory.available<1Gi",
            "--eviction-soft-grace-period=memory.available=90s",
            "--eviction-minimum-reclaim=nodefs.available=500Mi",
            "--eviction-pressure-transition-period=30s",
            "--eviction-max-pod-grace-period=45",
        ])
        .unwrap();
        assert_eq!(
            (set.pod_pids_limit, set.seccomp_default, set.max_pods),
            (Some(99), true, 12)
        );
        assert_eq!(set.streaming_idle_timeout, std::time::Duration::from_secs(300));
        assert_eq!((set.event_qps, set.anonymous, set.webhook), (7, true, false));
        assert_eq!(
            (set.eviction.hard.len(), set.reserved["cpu"], set.cluster_dns.len()),
            (2, 100, 2)
        );
        assert_eq!(set.tls.versions().len(), 1);
        assert_eq!((set.image_gc.high_threshold, set.image_gc.low_threshold), (70, 60));
        assert_eq!(set.image_gc.minimum_age, std::time::Duration::from_secs(3600));
        assert_eq!(set.eviction.thresholds().unwrap().len(), 3);
        assert_eq!(set.eviction.minimum_reclaim.len(), 1);
        assert_eq!(
            (set.eviction.transition.as_secs(), set.eviction.max_pod_grace),
            (30, 45)
        );
        assert_eq!(config(&["--pod-max-pids=-1"]).unwrap().pod_pids_limit, None);
        let last = config(&["--seccomp-default", "--seccomp-default=false", "--pod-max-pids=9"]).unwrap();
        assert_eq!((last.seccomp_default, last.pod_pids_limit), (false, Some(9)));
    }

    #[test]
    fn what_is_not_built_is_refused_and_what_nobody_knows_is_unknown() {
        for (flag, why) in [
            (
                "--read-only-port=10255",
                "--read-only-port: \"10255\": only 0 is supported: the read-only port is not built",
            ),
            (
                "--make-iptables-util-chains=true",
                "utility chains of iptables are not built",
            ),
            (
                "--image-gc-high-threshold=80",
                "must be less than imageGCHighThresholdPercent",
            ),
            (
                "--eviction-soft=memory.available<1Gi",
                "grace period must be specified for the soft eviction threshold memory.available",
            ),
            ("--eviction-max-pod-grace-period=-1", "must not be negative"),
            ("--cpu-manager-policy=static", "resource managers are not built"),
            ("--pod-max-pids=many", "is not a number"),
            ("--seccomp-default=maybe", "is neither true nor false"),
            ("--eviction-hard=memory.available", "is not signal<amount"),
            ("--authorization-mode=Anything", "is not a mode"),
            (
                "--tls-cipher-suites=TLS_X",
                "Cipher suite TLS_X not supported or doesn't exist",
            ),
            ("--streaming-connection-idle-timeout=long", "is not a duration"),
            ("--no-such-flag=1", "unexpected argument '--no-such-flag'"),
        ] {
            let said = config(&[flag]).map(|_| ()).unwrap_err();
            assert!(said.contains(why), "{flag}: {said}");
        }
    }

    #[test]
    fn a_flag_does_not_reset_what_another_file_has_set() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("k.yaml");
        let text = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthorization: {mode: AlwaysAllow}\n\
                    imagePullCredentialsVerificationPolicy: AlwaysVerify\nmaxPods: 7\nseccompDefault: true\n";
        std::fs::write(&path, text).unwrap();
        let set = config(&["--config", path.to_str().unwrap(), "--max-pods=9"]).unwrap();
        assert_eq!((set.max_pods, set.webhook, set.seccomp_default), (9, false, true));
        assert_eq!(set.image_verification.as_str(), "AlwaysVerify");
    }

    #[test]
    fn flags_are_in_order_and_their_fields_exist() {
        assert!(FLAGS.is_sorted_by_key(|(name, ..)| *name));
        for (name, effect, _) in FLAGS {
            if let Field(path, kind) = effect {
                let text = match kind {
                    Number => "1",
                    Bool => "true",
                    Pairs('<') => "memory.available<1Gi",
                    Pairs(_) => "cpu=1",
                    _ => "1",
                };
                let flags = FieldFlags {
                    given: vec![(name, effect, text.to_owned())],
                };
                let said = KubeletConfig::new("n").apply_flags(&flags).err().map(|e| e.to_string());
                let unknown = said.is_some_and(|s| s.contains("unknown field"));
                assert!(!unknown, "{name}: {path}");
            }
        }
    }
}

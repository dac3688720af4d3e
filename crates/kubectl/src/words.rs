//! The words of a command line: which commands they name, and which of them are flags.

use std::ffi::OsString;

use clap::ArgAction;

/// `--watch=true` and `--watch=false` as they are without a value.
pub fn plain_switches(spec: &clap::Command, words: Vec<OsString>) -> Vec<OsString> {
    // A flag may be a switch for one command and take a value for another.
    let path = path_of(spec, &words);
    let of = |command: &&clap::Command| -> Vec<String> {
        let switches = command
            .get_arguments()
            .filter(|a| matches!(a.get_action(), ArgAction::SetTrue));
        switches.filter_map(|a| a.get_long().map(str::to_owned)).collect()
    };
    let names: Vec<String> = path.iter().flat_map(of).collect();
    let mut plain = true;
    words
        .into_iter()
        .filter_map(|word| {
            let Some(text) = word.to_str().filter(|_| plain) else {
                return Some(word);
            };
            plain = text != "--";
            let switch = text.strip_prefix("--").and_then(|t| t.split_once('='));
            match switch.filter(|(name, _)| names.iter().any(|n| n == name)) {
                Some((name, "true" | "1" | "t" | "T" | "TRUE" | "True")) => Some(OsString::from(format!("--{name}"))),
                Some((_, "false" | "0" | "f" | "F" | "FALSE" | "False")) => None,
                _ => Some(word),
            }
        })
        .collect()
}

/// The commands that the words name, from the program on.
pub fn path_of<'a>(spec: &'a clap::Command, words: &[OsString]) -> Vec<&'a clap::Command> {
    let mut path = vec![spec];
    let mut rest: Vec<&str> = words
        .iter()
        .skip(1)
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    loop {
        let at = path[path.len() - 1];
        let Some(place) = first_plain(&switches(&path), &rest) else {
            break;
        };
        let Some(found) = at.find_subcommand(rest[place]) else {
            break;
        };
        rest.remove(place);
        path.push(found);
    }
    path
}

/// The words with the names of the commands before all flags: to cobra a flag is of the command that is run, wherever it stands.
pub fn commands_first(spec: &clap::Command, words: Vec<OsString>) -> Vec<OsString> {
    let texts: Vec<&str> = words.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    let mut rest: Vec<usize> = (1..words.len()).collect();
    let (mut path, mut order) = (vec![spec], vec![0]);
    loop {
        let left: Vec<&str> = rest.iter().map(|at| texts[*at]).collect();
        let Some(place) = first_plain(&switches(&path), &left) else {
            break;
        };
        let Some(found) = path[path.len() - 1].find_subcommand(left[place]) else {
            break;
        };
        order.push(rest.remove(place));
        path.push(found);
    }
    order.extend(rest);
    let mut words: Vec<Option<OsString>> = words.into_iter().map(Some).collect();
    order.into_iter().filter_map(|at| words.get_mut(at)?.take()).collect()
}

/// The flags that take no value, of the last of these commands and of all.
pub fn switches(path: &[&clap::Command]) -> Vec<String> {
    let root = path
        .first()
        .into_iter()
        .flat_map(|root| root.get_arguments().filter(|arg| arg.is_global_set()));
    let own = path.last().into_iter().flat_map(|command| command.get_arguments());
    let plain = root.chain(own).filter(|arg| {
        !arg.get_action().takes_values() || arg.get_num_args().is_some_and(|count| count.min_values() == 0)
    });
    let names = plain.flat_map(|arg| {
        let short = arg.get_short().map(|letter| format!("-{letter}"));
        arg.get_long().map(|name| format!("--{name}")).into_iter().chain(short)
    });
    names.chain(["--help", "-h"].map(str::to_owned)).collect()
}

/// Where the first word stands that is no flag and, as far as one can tell before the flags are known, no value of one: what
/// follows a flag that is not known counts as its value.
pub fn first_plain(switches: &[String], words: &[&str]) -> Option<usize> {
    let mut at = 0;
    while at < words.len() {
        let word = words[at];
        let takes = word.starts_with('-') && !word.contains('=') && !switches.iter().any(|s| s == word);
        match word {
            "--" => return None,
            _ if takes && (word.starts_with("--") || word.len() == 2) => at += 2,
            "" => at += 1,
            _ if word.starts_with('-') => at += 1,
            _ => return Some(at),
        }
    }
    None
}

/// `kubectl rollout undo`.
pub fn called(spec: &clap::Command, words: &[OsString]) -> String {
    let names: Vec<&str> = path_of(spec, words).into_iter().map(clap::Command::get_name).collect();
    names.join(" ")
}

/// The first flag that the group of commands which the words name does not have, without its value; and the words that are left.
pub fn of_group<'w>(spec: &clap::Command, words: &'w [OsString]) -> (Option<&'w str>, Vec<&'w str>) {
    let path = path_of(spec, words);
    let mut rest: Vec<&str> = words
        .iter()
        .skip(1)
        .map(|word| word.to_str().unwrap_or_default())
        .collect();
    for depth in 1..path.len() {
        if let Some(place) = first_plain(&switches(&path[..depth]), &rest) {
            rest.remove(place);
        }
    }
    let switches = switches(&path);
    let known = |word: &str| {
        let arguments = path[0]
            .get_arguments()
            .filter(|arg| arg.is_global_set())
            .chain(path[path.len() - 1].get_arguments());
        let name = word.trim_start_matches('-');
        let mut named = arguments.filter(|arg| match word.starts_with("--") {
            true => arg.get_long() == Some(name),
            false => arg.get_short() == name.chars().next(),
        });
        named.next().is_some() || matches!(word, "--help" | "-h")
    };
    let (mut unknown, mut plain, mut at) = (None, Vec::new(), 0);
    while at < rest.len() {
        let word = rest[at];
        let flag = word.split('=').next().unwrap_or_default();
        if !word.starts_with('-') || word.len() == 1 {
            plain.push(word);
        } else if !known(flag) {
            unknown.get_or_insert(flag);
        } else if !word.contains('=') && !switches.iter().any(|s| s == word) {
            at += 1;
        }
        at += 1;
    }
    (unknown, plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::spec;

    #[test]
    fn the_words_name_a_command() {
        let of = |line: &str| called(&spec(), &line.split(' ').map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of("kubectl cordon cordon node"), "kubectl cordon");
        assert_eq!(of("kubectl -n get get pods"), "kubectl get");
        assert_eq!(of("kubectl --warnings-as-errors rollout undo"), "kubectl rollout undo");
    }

    #[test]
    fn switches_may_say_true_or_false() {
        let words = [
            "kubectl",
            "get",
            "--watch=false",
            "--no-headers=true",
            "--",
            "--watch=true",
        ];
        let plain = plain_switches(&spec(), words.iter().map(OsString::from).collect());
        assert_eq!(plain, ["kubectl", "get", "--no-headers", "--", "--watch=true"]);
    }

    #[test]
    fn a_flag_before_a_command_is_of_the_command() {
        let words = [
            "kubectl",
            "--selector=a in (b)",
            "-n",
            "x",
            "create",
            "secret",
            "generic",
            "s",
        ];
        let ordered = commands_first(&spec(), words.iter().map(OsString::from).collect());
        let want = [
            "kubectl",
            "create",
            "secret",
            "generic",
            "--selector=a in (b)",
            "-n",
            "x",
            "s",
        ];
        assert_eq!(ordered, want);
    }
}

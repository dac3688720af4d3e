//! What is told of a command line that is wrong, in upstream's words.

use std::ffi::OsString;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;
use crate::print::go::quote;
use crate::words::of_group;

/// Upstream's words of a command that there is not.
pub(super) fn unknown_command(name: &str, spec: &clap::Command, words: &[OsString], called: &str) -> String {
    // a group of commands reads its flags, and then tells of all words
    let (unknown, plain) = of_group(spec, words);
    if called != "kubectl" {
        if let Some(flag) = unknown {
            let told = match flag.starts_with("--") {
                true => format!("unknown flag: {flag}"),
                false => format!("unknown shorthand flag: '{}' in {flag}", &flag[1..2]),
            };
            return format!("error: {told}\nSee '{called} --help' for usage.");
        }
        if called == "kubectl create" {
            let all = plain.join(" ");
            return format!("error: Unexpected args: [{all}]\nSee '{called} -h' for help and examples");
        }
        return format!(
            "error: unknown command {}\nSee '{called} -h' for help and examples",
            quote(&plain.join(" "))
        );
    }
    let text = format!("error: unknown command {} for \"kubectl\"", quote(name));
    let near = suggestions(name);
    if near.is_empty() {
        return text;
    }
    format!("{text}\n\nDid you mean this?\n\t{}", near.join("\n\t"))
}

/// Upstream's words of a value that a flag does not take.
fn misfit(error: &clap::Error, flag: &str, value: &str, called: &str) -> String {
    let reason = std::error::Error::source(error)
        .map(ToString::to_string)
        .unwrap_or_default();
    let reason = match reason.as_str() {
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            format!("strconv.ParseInt: parsing {}: invalid syntax", quote(value))
        }
        "number too large to fit in target type" | "number too small to fit in target type" => {
            format!("strconv.ParseInt: parsing {}: value out of range", quote(value))
        }
        _ => reason,
    };
    if flag == "--dry-run" {
        return format!("error: {reason}");
    }
    format!(
        "error: invalid argument {} for {} flag: {reason}\nSee '{called} --help' for usage.",
        quote(value),
        quote(flag)
    )
}

/// `words` are the command line; its last may be a flag without its value.
pub(super) fn in_upstreams_words(
    error: &clap::Error,
    spec: &clap::Command,
    words: &[OsString],
    called: &str,
) -> String {
    let last = words.last().and_then(|word| word.to_str()).unwrap_or_default();
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        _ => String::new(),
    };
    let argument = context(ContextKind::InvalidArg);
    let flag = argument.split([' ', '=', '[']).next().unwrap_or_default().to_owned();
    match error.kind() {
        ErrorKind::UnknownArgument if flag.starts_with("--") => {
            format!("error: unknown flag: {flag}\nSee '{called} --help' for usage.")
        }
        ErrorKind::UnknownArgument if flag.starts_with('-') => {
            let letter = flag.trim_start_matches('-');
            format!("error: unknown shorthand flag: '{letter}' in -{letter}\nSee '{called} --help' for usage.")
        }
        ErrorKind::UnknownArgument => {
            format!("error: unexpected arguments: [{argument}]\nSee '{called} -h' for help and examples")
        }
        ErrorKind::InvalidSubcommand => unknown_command(&context(ContextKind::InvalidSubcommand), spec, words, called),
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() && flag.starts_with('-') => {
            let letter = last.strip_prefix('-').filter(|l| l.len() == 1);
            let flag = letter.map_or(flag, |l| format!("'{l}' in -{l}"));
            format!("error: flag needs an argument: {flag}\nSee '{called} --help' for usage.")
        }
        ErrorKind::InvalidValue if flag.starts_with("--") => {
            // what has only these values is a switch
            let switch = matches!(error.get(ContextKind::ValidValue), Some(ContextValue::Strings(all)) if all.iter().any(|v| v == "true"));
            let value = quote(&context(ContextKind::InvalidValue));
            match switch {
                true => format!(
                    "error: invalid argument {value} for {} flag: strconv.ParseBool: parsing {value}: invalid syntax\nSee '{called} --help' for usage.",
                    quote(&flag)
                ),
                false => error.render().to_string().trim_end().to_owned(),
            }
        }
        ErrorKind::MissingRequiredArgument => {
            let missing = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(names)) => names.clone(),
                _ => Vec::new(),
            };
            let names = missing
                .iter()
                .filter_map(|m| m.strip_prefix("--"))
                .map(|m| m.split([' ', '=']).next().unwrap_or(m));
            let names: Vec<String> = names.map(quote).collect();
            format!("error: required flag(s) {} not set", names.join(", "))
        }
        ErrorKind::ValueValidation => misfit(error, &flag, &context(ContextKind::InvalidValue), called),
        _ => error.render().to_string().trim_end().to_owned(),
    }
}

/// Commands that differ in at most two letters, or begin so.
fn suggestions(name: &str) -> Vec<String> {
    let spec = Cli::command();
    let mut names: Vec<String> = spec.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let asked = name.to_lowercase();
    let other = |n: &str| {
        matches!(
            (asked.as_str(), n),
            ("rm" | "remove", "delete") | ("list" | "ps", "get")
        )
    };
    names.retain(|n| other(n) || distance(&asked, n) <= 2 || n.starts_with(&asked));
    names
}

/// How many letters must be put in, taken out or changed (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

//! Libraries: one file each, with what it declares, what its functions do, what calls cost and what they are estimated to cost.
//! The versions that bring them in are upstream's `k8s.io/apiserver/pkg/cel/environment/base.go`.

pub(crate) mod authorizer;
pub(crate) mod cidr;
mod comprehensions;
mod extended_lists;
pub(crate) mod format;
pub(crate) mod ip;
pub(crate) mod jsonpatch;
mod lists;
mod named_formats;
mod operators;
mod optional;
pub(crate) mod quantity;
mod regex;
mod semver;
mod sets;
mod standard;
mod strings;
mod time;
pub(crate) mod urls;

use crate::cost::{Actual, Estimate, Estimated};
use crate::environment::Declarations;

/// A library of functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    Operators,
    Standard,
    Time,
    Urls,
    Regex,
    Lists,
    /// `includes`.
    Includes,
    Authorizer,
    AuthorizerSelectors,
    Optional,
    Quantity,
    Strings,
    /// Version 2 of the strings library: `format`, `quote`.
    StringFormat,
    Sets,
    Ip,
    Cidr,
    NamedFormats,
    TwoVariables,
    Semver,
    ExtendedLists,
    JsonPatch,
}

/// The libraries and the minor version of Kubernetes that brings each in.
const VERSIONS: [(Library, u32); 21] = [
    (Library::Operators, 0),
    (Library::Standard, 0),
    (Library::Time, 0),
    (Library::Urls, 0),
    (Library::Regex, 0),
    (Library::Strings, 0),
    (Library::Authorizer, 27),
    (Library::Optional, 28),
    (Library::Quantity, 28),
    (Library::StringFormat, 29),
    (Library::Sets, 29),
    (Library::Ip, 30),
    (Library::Cidr, 30),
    (Library::NamedFormats, 31),
    (Library::AuthorizerSelectors, 31),
    (Library::TwoVariables, 32),
    (Library::Semver, 33),
    (Library::ExtendedLists, 34),
    // before the list functions of the next line upstream has the strings' of the same name
    (Library::Lists, 0),
    (Library::Includes, 37),
    (Library::JsonPatch, 0),
];

/// The libraries of a minor version.
pub(crate) fn of(minor: u32) -> Vec<Library> {
    let all = VERSIONS.into_iter().filter(|(_, since)| *since <= minor);
    all.map(|(library, _)| library).collect()
}

impl Library {
    /// Declares the library's functions and types.
    pub fn declare(self, into: &mut Declarations) {
        match self {
            Library::Operators => operators::declare(into),
            Library::Standard => standard::declare(into),
            Library::Time => time::declare(into),
            Library::Urls => urls::declare(into),
            Library::Regex => regex::declare(into),
            Library::Lists => lists::declare(into),
            Library::Includes => lists::declare_includes(into),
            Library::Authorizer => authorizer::declare(into),
            Library::AuthorizerSelectors => authorizer::declare_selectors(into),
            Library::Optional => optional::declare(into),
            Library::Quantity => quantity::declare(into),
            Library::Strings => strings::declare(into),
            Library::StringFormat => format::declare(into),
            Library::Sets => sets::declare(into),
            Library::Ip => ip::declare(into),
            Library::Cidr => cidr::declare(into),
            Library::NamedFormats => named_formats::declare(into),
            Library::TwoVariables => comprehensions::declare(into),
            Library::Semver => semver::declare(into),
            Library::ExtendedLists => extended_lists::declare(into),
            Library::JsonPatch => jsonpatch::declare(into),
        }
    }
}

/// What a call cost, when a library says so. The order matters: signatures before names.
pub(crate) fn actual(call: &Actual<'_, '_>) -> Option<u64> {
    sets::actual(call)
        .or_else(|| extended_lists::actual(call))
        .or_else(|| authorizer::actual(call))
        .or_else(|| lists::actual(call))
        .or_else(|| strings::actual(call))
        .or_else(|| regex::actual(call))
        .or_else(|| ip::actual(call))
        .or_else(|| cidr::actual(call))
        .or_else(|| quantity::actual(call))
        .or_else(|| named_formats::actual(call))
        .or_else(|| urls::actual(call))
        .or_else(|| jsonpatch::actual(call))
        .or_else(|| operators::actual_equality(call))
        .or_else(|| standard::actual(call))
}

/// What a call is estimated to cost, when a library says so.
pub(crate) fn estimate(call: &Estimated<'_, '_>) -> Option<Estimate> {
    sets::estimate(call)
        .or_else(|| extended_lists::estimate(call))
        .or_else(|| authorizer::estimate(call))
        .or_else(|| lists::estimate(call))
        .or_else(|| strings::estimate(call))
        .or_else(|| regex::estimate(call))
        .or_else(|| ip::estimate(call))
        .or_else(|| cidr::estimate(call))
        .or_else(|| quantity::estimate(call))
        .or_else(|| named_formats::estimate(call))
        .or_else(|| urls::estimate(call))
        .or_else(|| jsonpatch::estimate(call))
        .or_else(|| operators::estimate_equality(call))
        .or_else(|| standard::estimate(call))
}

pub(crate) use self::comprehensions::put;
pub(crate) use self::format::problem as format_problem;
pub(crate) use self::regex::{begin, check as check_pattern, compile, with_pattern};

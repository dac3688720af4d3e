//! System call filters: rules by name compiled to classic BPF. See seccomp(2).
#![allow(unsafe_code)]

mod default_profile;
pub(crate) mod json_profile;
#[cfg(target_arch = "aarch64")]
#[path = "numbers_aarch64.rs"]
mod numbers;
#[cfg(target_arch = "x86_64")]
#[path = "numbers_x86_64.rs"]
mod numbers;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::spec::Seccomp;
use json_profile::ProfileError;

#[cfg(target_arch = "x86_64")]
pub(crate) const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
pub(crate) const ARCH: u32 = 0xc000_00b7;

pub(crate) const ALLOW: u32 = 0x7fff_0000;
pub(crate) const ERRNO: u32 = 0x0005_0000;

const LD_WORD: u16 = 0x20;
const AND: u16 = 0x54;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RET: u16 = 0x06;

/// Jump distances to be filled in: to the end of the condition, and out of the rule.
const MATCHED: u8 = 254;
const FAILED: u8 = 255;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The argument and a mask give the value.
    Masked(u64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    pub argument: u8,
    pub comparison: Comparison,
    pub value: u64,
}

/// What happens to a system call whose arguments meet all conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub number: u32,
    pub conditions: Vec<Condition>,
    pub action: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Profile {
    pub default: u32,
    pub rules: Vec<Rule>,
}

pub(crate) fn number(name: &str) -> Option<u32> {
    numbers::NUMBERS
        .binary_search_by(|(n, _)| (*n).cmp(name))
        .ok()
        .map(|i| numbers::NUMBERS[i].1)
}

type Code = Vec<libc::sock_filter>;

fn op(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

fn condition(c: &Condition) -> Code {
    // struct seccomp_data: number, architecture, instruction pointer (8 bytes), six arguments of 8 bytes.
    let low_at = 16 + u32::from(c.argument) * 8;
    let (low, high) = (op(LD_WORD, low_at, 0, 0), op(LD_WORD, low_at + 4, 0, 0));
    let (value_low, value_high) = (c.value as u32, (c.value >> 32) as u32);
    match c.comparison {
        Comparison::Equal => vec![high, op(JEQ, value_high, 0, FAILED), low, op(JEQ, value_low, 0, FAILED)],
        Comparison::NotEqual => vec![
            high,
            op(JEQ, value_high, 0, MATCHED),
            low,
            op(JEQ, value_low, FAILED, 0),
        ],
        Comparison::Masked(mask) => vec![
            high,
            op(AND, (mask >> 32) as u32, 0, 0),
            op(JEQ, value_high, 0, FAILED),
            low,
            op(AND, mask as u32, 0, 0),
            op(JEQ, value_low, 0, FAILED),
        ],
        Comparison::Greater | Comparison::GreaterOrEqual => {
            let test = if c.comparison == Comparison::Greater { JGT } else { JGE };
            vec![
                high,
                op(JGT, value_high, MATCHED, 0),
                op(JEQ, value_high, 0, FAILED),
                low,
                op(test, value_low, 0, FAILED),
            ]
        }
        Comparison::Less | Comparison::LessOrEqual => {
            let test = if c.comparison == Comparison::Less { JGE } else { JGT };
            vec![
                high,
                op(JGT, value_high, FAILED, 0),
                op(JEQ, value_high, 0, MATCHED),
                low,
                op(test, value_low, FAILED, 0),
            ]
        }
    }
}

fn fill(code: &mut Code, marker: u8, end: usize) {
    for (i, instruction) in code.iter_mut().enumerate() {
        if matches!(instruction.code, JEQ | JGT | JGE) {
            let distance = (end - i - 1) as u8;
            if instruction.jt == marker {
                instruction.jt = distance;
            }
            if instruction.jf == marker {
                instruction.jf = distance;
            }
        }
    }
}

/// What one system call number leads to.
fn target(rules: &[&Rule], default: u32) -> Code {
    if let Some(rule) = rules.iter().find(|r| r.conditions.is_empty()) {
        return vec![op(RET, rule.action, 0, 0)];
    }
    let mut code = Code::new();
    for rule in rules {
        let mut block = Code::new();
        for c in &rule.conditions {
            let mut part = condition(c);
            let end = part.len();
            fill(&mut part, MATCHED, end);
            block.append(&mut part);
        }
        block.push(op(RET, rule.action, 0, 0));
        let end = block.len();
        fill(&mut block, FAILED, end);
        code.append(&mut block);
    }
    code.push(op(RET, default, 0, 0));
    code
}

/// Finds the number's place by halving.
fn search(ranges: &[(u32, Code)]) -> Code {
    if let [(_, only)] = ranges {
        return only.clone();
    }
    let middle = ranges.len() / 2;
    let (left, right) = (search(&ranges[..middle]), search(&ranges[middle..]));
    let mut code = vec![op(JGE, ranges[middle].0, 0, 1), op(JA, left.len() as u32, 0, 0)];
    code.extend(left);
    code.extend(right);
    code
}

fn same(a: &Code, b: &Code) -> bool {
    a.len() == 1 && b.len() == 1 && a[0].k == b[0].k
}

/// The program. Calls of another architecture than the machine's own have other numbers: they do not exist.
pub fn compile(profile: &Profile) -> Vec<libc::sock_filter> {
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in &profile.rules {
        by_number.entry(rule.number).or_default().push(rule);
    }
    let default = vec![op(RET, profile.default, 0, 0)];
    let mut ranges: Vec<(u32, Code)> = Vec::new();
    let mut push = |start: u32, code: Code| {
        if !ranges.last().is_some_and(|(_, last)| same(last, &code)) {
            ranges.push((start, code));
        }
    };
    let mut next = 0;
    for (number, rules) in &by_number {
        if *number > next || next == 0 && *number != 0 {
            push(next, default.clone());
        }
        push(*number, target(rules, profile.default));
        next = number + 1;
    }
    push(next, default);
    let nosys = ERRNO | libc::ENOSYS as u32;
    let mut code = vec![
        op(LD_WORD, 4, 0, 0),
        op(JEQ, ARCH, 1, 0),
        op(RET, nosys, 0, 0),
        op(LD_WORD, 0, 0, 0),
    ];
    code.extend(search(&ranges));
    code
}

/// Why a profile of the node cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error("seccomp profile {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("seccomp profile {}: {source}", path.display())]
    Profile { path: PathBuf, source: ProfileError },
}

/// The program of a container's setting; `None` where nothing is filtered. Capabilities widen the default profile.
pub(crate) fn program(setting: &Seccomp, capabilities: u64) -> Result<Option<Vec<libc::sock_filter>>, SeccompError> {
    match setting {
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(compile(&default_profile::profile(capabilities)))),
        Seccomp::Localhost(path) => {
            let path = path.clone();
            let text = match std::fs::read(&path) {
                Ok(text) => text,
                Err(source) => return Err(SeccompError::Read { path, source }),
            };
            let profile = json_profile::parse(&text, capabilities);
            let profile = profile.map_err(|source| SeccompError::Profile { path, source })?;
            Ok(Some(compile(&profile)))
        }
    }
}

/// Puts the calling thread, and what it executes, under the program.
pub fn install(program: &[libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::Error::other("seccomp program is too long"))?,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: the kernel copies the program during the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, 1u64, 0u64, &raw const filter) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn run(code: &[libc::sock_filter], number: u32, arguments: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(number.to_le_bytes());
        data.extend(ARCH.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        arguments.iter().for_each(|a| data.extend(a.to_le_bytes()));
        let (mut at, mut a) = (0usize, 0u32);
        loop {
            let i = &code[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { i.jt } else { i.jf });
            match i.code {
                LD_WORD => a = u32::from_le_bytes(data[i.k as usize..][..4].try_into().unwrap()),
                AND => a &= i.k,
                JA => at += i.k as usize,
                JEQ => at += jump(a == i.k),
                JGT => at += jump(a > i.k),
                JGE => at += jump(a >= i.k),
                RET => return i.k,
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn numbers_are_sorted_by_name() {
        assert!(numbers::NUMBERS.is_sorted_by_key(|(n, _)| *n));
    }

    #[test]
    fn conditions_compare_whole_arguments() {
        let big = 1u64 << 32;
        for (comparison, value, yes, no) in [
            (Comparison::Equal, big, vec![big], vec![0, big + 1]),
            (Comparison::NotEqual, big, vec![0, big + 1], vec![big]),
            (Comparison::Less, big, vec![0, big - 1], vec![big, big + 1, u64::MAX]),
            (Comparison::LessOrEqual, big, vec![0, big], vec![big + 1]),
            (Comparison::Greater, big, vec![big + 1, u64::MAX], vec![0, big]),
            (Comparison::GreaterOrEqual, big, vec![big, u64::MAX], vec![big - 1]),
            (Comparison::Masked(0xf0), 0x10, vec![0x1f], vec![0x2f]),
        ] {
            let conditions = vec![Condition {
                argument: 1,
                comparison,
                value,
            }];
            let code = compile(&Profile {
                default: 1,
                rules: vec![Rule {
                    number: 7,
                    conditions,
                    action: 2,
                }],
            });
            for (arguments, want) in [(yes, 2), (no, 1)] {
                for argument in arguments {
                    assert_eq!(
                        run(&code, 7, [9, argument, 9, 9, 9, 9]),
                        want,
                        "{comparison:?} {argument:#x}"
                    );
                    assert_eq!(run(&code, 6, [9, argument, 9, 9, 9, 9]), 1);
                }
            }
        }
    }

    #[test]
    fn the_default_profile_refuses_what_needs_a_capability_until_it_is_there() {
        let code = compile(&default_profile::profile(0));
        let refused = ERRNO | libc::EPERM as u32;
        let call = |name: &str, first: u64| run(&code, number(name).unwrap(), [first, 0, 0, 0, 0, 0]);
        for name in ["read", "execve", "openat2", "futex", "close_range", "ptrace"] {
            assert_eq!(call(name, 0), ALLOW, "{name}");
        }
        for name in ["mount", "bpf", "kexec_load", "init_module", "unshare", "keyctl"] {
            assert_eq!(call(name, 0), refused, "{name}");
        }
        assert_eq!(call("clone3", 0), ERRNO | libc::ENOSYS as u32);
        assert_eq!(call("clone", libc::CLONE_NEWUSER as u64), refused);
        assert_eq!(call("clone", libc::CLONE_VM as u64), ALLOW);
        assert_eq!(call("socket", libc::AF_INET as u64), ALLOW);
        assert_eq!(call("socket", libc::AF_VSOCK as u64), refused);
        assert_eq!(call("socket", libc::AF_ALG as u64), refused);
        let code = compile(&default_profile::profile(1 << 21));
        assert_eq!(run(&code, number("mount").unwrap(), [0; 6]), ALLOW);
        assert_eq!(
            run(
                &code,
                number("clone").unwrap(),
                [libc::CLONE_NEWUSER as u64, 0, 0, 0, 0, 0]
            ),
            ALLOW
        );
        assert!(code.len() < 4096);
    }

    #[test]
    fn a_json_profile_is_read_as_docker_reads_it() {
        let text = br#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","not_a_call"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
            {"names":["kill"],"action":"SCMP_ACT_KILL","args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]},
            {"names":["mount"],"action":"SCMP_ACT_ERRNO","excludes":{"caps":["CAP_SYS_ADMIN"]}}]}"#;
        let code = compile(&json_profile::parse(text, 1 << 21).unwrap());
        assert_eq!(run(&code, number("mkdir").unwrap(), [0; 6]), ERRNO | 13);
        assert_eq!(run(&code, number("kill").unwrap(), [0, 9, 0, 0, 0, 0]), 0);
        assert_eq!(run(&code, number("kill").unwrap(), [0, 15, 0, 0, 0, 0]), ALLOW);
        assert_eq!(run(&code, number("mount").unwrap(), [0; 6]), ALLOW);
        assert!(json_profile::parse(br#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#, 0).is_err());
    }
}

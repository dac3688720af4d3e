//! The device allow list of a version 2 control group: a `BPF_PROG_TYPE_CGROUP_DEVICE` program. See bpf(2).
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use crate::spec::DeviceNode;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;

const DEV_BLOCK: i32 = 1;
const DEV_CHAR: i32 = 2;
const ACCESS_MKNOD: i32 = 1;
const ACCESS_READ: i32 = 2;
const ACCESS_WRITE: i32 = 4;

#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, registers: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers,
        offset,
        immediate,
    }
}

/// `None` matches every number.
struct Rule {
    block: bool,
    access: i32,
    major: Option<u32>,
    minor: Option<u32>,
}

fn rules(devices: &[DeviceNode]) -> Vec<Rule> {
    let every = ACCESS_MKNOD | ACCESS_READ | ACCESS_WRITE;
    let mut rules = vec![
        Rule {
            block: false,
            access: ACCESS_MKNOD,
            major: None,
            minor: None,
        },
        Rule {
            block: true,
            access: ACCESS_MKNOD,
            major: None,
            minor: None,
        },
        Rule {
            block: false,
            access: every,
            major: Some(136),
            minor: None,
        },
    ];
    // terminals, and a tunnel, which a container that may make devices makes itself
    for (major, minor) in [(5, 0), (5, 2), (10, 200)] {
        rules.push(Rule {
            block: false,
            access: every,
            major: Some(major),
            minor: Some(minor),
        });
    }
    rules.extend(devices.iter().map(|d| Rule {
        block: d.block,
        access: d.access.bytes().fold(0, |bits, b| {
            bits | match b {
                b'r' => ACCESS_READ,
                b'w' => ACCESS_WRITE,
                b'm' => ACCESS_MKNOD,
                _ => 0,
            }
        }),
        major: Some(d.major),
        minor: Some(d.minor),
    }));
    rules
}

/// Registers: 2 type, 3 access, 4 major, 5 minor; each rule falls through to the next when it does not match.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut code = vec![
        op(0x61, 0x12, 0, 0),      // r2 = access_type
        op(0xbc, 0x23, 0, 0),      // w3 = w2
        op(0x74, 0x03, 0, 16),     // w3 >>= 16
        op(0x54, 0x02, 0, 0xffff), // w2 &= 0xffff
        op(0x61, 0x14, 4, 0),      // r4 = major
        op(0x61, 0x15, 8, 0),      // r5 = minor
    ];
    for rule in rules {
        let mut block = vec![
            op(0xbc, 0x31, 0, 0),            // w1 = w3
            op(0x54, 0x01, 0, !rule.access), // w1 &= what the rule does not allow
        ];
        // Each of these leaves the rule; the distance is filled in below.
        let mut leaves = vec![op(0x55, 0x02, 0, if rule.block { DEV_BLOCK } else { DEV_CHAR })];
        if let Some(major) = rule.major {
            leaves.push(op(0x55, 0x04, 0, major as i32));
        }
        if let Some(minor) = rule.minor {
            leaves.push(op(0x55, 0x05, 0, minor as i32));
        }
        leaves.push(op(0x55, 0x01, 0, 0));
        let first = block.len();
        block.extend(leaves);
        block.push(op(0xb7, 0x00, 0, 1));
        block.push(op(0x95, 0x00, 0, 0));
        let length = block.len();
        for (i, instruction) in block.iter_mut().enumerate().skip(first) {
            if instruction.code == 0x55 {
                instruction.offset = (length - i - 1) as i16;
            }
        }
        code.append(&mut block);
    }
    code.push(op(0xb7, 0x00, 0, 0));
    code.push(op(0x95, 0x00, 0, 0));
    code
}

#[repr(C)]
struct LoadAttr {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
}

#[repr(C)]
struct AttachAttr {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Lets the group's processes use only `devices` and the terminals; `all` leaves the group without a filter.
pub fn attach(group: &Path, devices: &[DeviceNode], all: bool) -> io::Result<()> {
    if all {
        return Ok(());
    }
    let code = program(&rules(devices));
    let license = c"Apache-2.0";
    let load = LoadAttr {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: code.len() as u32,
        instructions: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    // SAFETY: the attributes have the size given; what they point to outlives the call; the descriptor is ours.
    let loaded = unsafe {
        let fd = libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, &raw const load, size_of::<LoadAttr>());
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd as i32)
    };
    let dir = File::open(group)?;
    let attach = AttachAttr {
        target: dir.as_raw_fd() as u32,
        program: loaded.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        flags: 0,
    };
    // SAFETY: the attributes have the size given and outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const attach,
            size_of::<AttachAttr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_does_not_match_goes_to_the_next() {
        let code = program(&[Rule {
            block: false,
            access: ACCESS_READ,
            major: Some(1),
            minor: Some(3),
        }]);
        let block = &code[6..];
        let end = block.len() - 2;
        for (i, instruction) in block.iter().enumerate().filter(|(_, b)| b.code == 0x55) {
            assert_eq!(i + 1 + instruction.offset as usize, end);
        }
    }
}

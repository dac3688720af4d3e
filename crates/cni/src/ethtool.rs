//! The one setting of a device that netlink's links do not have: who makes checksums. See ethtool(8).
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;

#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `ifreq` with a pointer as its data.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    data: *mut Value,
    rest: [u8; 16],
}

/// Has the kernel make the checksums of what is sent through the device of this thread's namespace, instead of leaving them
/// to it.
pub fn tx_checksum_off(name: &str) -> Result<(), Errno> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut value = Value {
        command: ETHTOOL_STXCSUM,
        data: 0,
    };
    let mut request = Request {
        name: [0; libc::IFNAMSIZ],
        data: &raw mut value,
        rest: [0; 16],
    };
    // the last byte stays zero
    for (to, from) in request.name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the descriptor is open; the request is as large as ifreq at least, its name ends with zero, and its data points to
    // an ethtool_value, which is all that this command reads and writes.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) }).map(drop)
}

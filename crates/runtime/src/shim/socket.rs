//! Messages with file descriptors over a `SOCK_SEQPACKET` unix socket: one packet, one message. See unix(7).
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most file descriptors in one message: stdin, stdout, stderr.
const MAX_FDS: usize = 4;
/// Room for the largest message; exec's arguments are what makes one long.
const BUFFER: libc::c_int = 4 << 20;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn address(path: &Path) -> io::Result<libc::sockaddr_un> {
    // SAFETY: all zeroes is a valid sockaddr_un.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() >= address.sun_path.len() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "socket path {} is longer than {} bytes",
                path.display(),
                address.sun_path.len() - 1
            ),
        ));
    }
    for (to, from) in address.sun_path.iter_mut().zip(bytes) {
        *to = *from as libc::c_char;
    }
    Ok(address)
}

fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
    // SAFETY: a new descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_UNIX, kind, 0))?) };
    grow(&fd);
    Ok(fd)
}

/// Large messages need a large buffer; being refused one only lowers the limit.
fn grow(fd: &OwnedFd) {
    for option in [libc::SO_SNDBUFFORCE, libc::SO_RCVBUFFORCE] {
        // SAFETY: the option is an int.
        unsafe {
            libc::setsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                option,
                std::ptr::from_ref(&BUFFER).cast(),
                size_of::<libc::c_int>() as u32,
            );
        }
    }
}

/// Makes a socket at the path, which must not be there, and listens on it.
///
/// # Errors
/// `InvalidInput` for a path of more than 107 bytes; else what the system says.
pub fn listen(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket()?;
    let address = address(path)?;
    // SAFETY: address outlives the call and has its size.
    unsafe {
        check(libc::bind(
            fd.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_un>() as u32,
        ))?;
        check(libc::listen(fd.as_raw_fd(), 16))?;
    }
    Ok(fd)
}

/// Takes a connection, which does not block.
///
/// # Errors
/// What accept(2) says; `WouldBlock` on a listener that does not block.
pub fn accept(listener: &OwnedFd) -> io::Result<OwnedFd> {
    // SAFETY: no address asked for; the new descriptor is ours.
    let fd = unsafe {
        OwnedFd::from_raw_fd(check(libc::accept4(
            listener.as_raw_fd(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
        ))?)
    };
    grow(&fd);
    Ok(fd)
}

/// Connects to a socket. The connection does not block.
///
/// # Errors
/// `ConnectionRefused` where nobody listens any more; else what the system says.
pub fn connect(path: &Path) -> io::Result<OwnedFd> {
    let fd = socket()?;
    let address = address(path)?;
    // SAFETY: address outlives the call and has its size.
    unsafe {
        check(libc::connect(
            fd.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of::<libc::sockaddr_un>() as u32,
        ))?;
        check(libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK))?;
    }
    Ok(fd)
}

/// A connected pair, blocking.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0 as RawFd; 2];
    // SAFETY: fds has room for two; both are ours.
    unsafe {
        check(libc::socketpair(
            libc::AF_UNIX,
            libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC,
            0,
            fds.as_mut_ptr(),
        ))?;
        Ok((OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])))
    }
}

#[repr(align(8))]
struct Control([u8; 64]);

/// Sends a packet with descriptors, four at most.
///
/// # Errors
/// `WouldBlock` when the other side does not read, `EMSGSIZE` for a packet larger than the buffer; else what sendmsg(2)
/// says.
pub fn send_bytes(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd]) -> io::Result<()> {
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: the control buffer has room for MAX_FDS descriptors; every pointer outlives sendmsg.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            let size = (size_of::<RawFd>() * fds.len().min(MAX_FDS)) as u32;
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size) as usize;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size) as usize;
            for (i, fd) in fds.iter().take(MAX_FDS).enumerate() {
                libc::CMSG_DATA(header)
                    .cast::<RawFd>()
                    .add(i)
                    .write_unaligned(fd.as_raw_fd());
            }
        }
        if libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// One packet and its descriptors; `None` at the end.
pub fn receive_bytes(socket: BorrowedFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    // SAFETY: peeking with MSG_TRUNC gives the packet's length and writes nothing.
    let length = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_PEEK | libc::MSG_TRUNC,
        )
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut bytes = vec![0u8; length as usize];
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: bytes.len(),
    };
    let mut fds = Vec::new();
    // SAFETY: every pointer outlives recvmsg; received descriptors are ours alone.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len();
        let got = libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC);
        if got < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header).cast::<RawFd>();
                let count = ((*header).cmsg_len - libc::CMSG_LEN(0) as usize) / size_of::<RawFd>();
                fds.extend((0..count).map(|i| OwnedFd::from_raw_fd(data.add(i).read_unaligned())));
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
        if got == 0 {
            return Ok(None);
        }
    }
    Ok(Some((bytes, fds)))
}

/// Sends a message as JSON, with descriptors.
///
/// # Errors
/// As [`send_bytes`].
pub fn send<T: Serialize>(socket: BorrowedFd, message: &T, fds: &[BorrowedFd]) -> io::Result<()> {
    send_bytes(socket, &serde_json::to_vec(message)?, fds)
}

/// Takes a message; none when the other side has closed the socket.
///
/// # Errors
/// `WouldBlock` when there is no message yet, `InvalidData` when it is not the JSON of a `T`; else what recvmsg(2)
/// says.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let Some((bytes, fds)) = receive_bytes(socket)? else {
        return Ok(None);
    };
    Ok(Some((serde_json::from_slice(&bytes)?, fds)))
}

//! The terminal of a remote command: raw while it runs, and its size told when it changes.
#![allow(unsafe_code)]

use std::os::fd::AsRawFd;

use nix::sys::termios::{self, SetArg, Termios};
use streaming::remote_command::TerminalSize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::error::{Result, message};

/// Puts the terminal back when it is dropped.
pub struct Raw(Termios);

impl Raw {
    pub(crate) fn enter() -> Result<Raw> {
        let broken = |e: nix::Error| message(format!("terminal: {e}"));
        let before = termios::tcgetattr(std::io::stdin()).map_err(broken)?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &raw).map_err(broken)?;
        Ok(Raw(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

fn size() -> Option<TerminalSize> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one winsize, which is what it is given.
    let done = unsafe { libc::ioctl(std::io::stdout().as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (done == 0 && size.ws_col > 0).then_some(TerminalSize {
        width: size.ws_col,
        height: size.ws_row,
    })
}

/// The size now, and after each change.
pub fn sizes() -> Result<mpsc::Receiver<TerminalSize>> {
    let (send, receive) = mpsc::channel(4);
    let mut changes = signal(SignalKind::window_change())?;
    tokio::spawn(async move {
        loop {
            if let Some(size) = size()
                && send.send(size).await.is_err()
            {
                return;
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
    Ok(receive)
}

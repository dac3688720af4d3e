//! A container's log file in the CRI format: `<time> <stream> <P|F> <text>`, one line each.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The longest line; what is longer is written in parts. Bytes.
const LONGEST_LINE: usize = 16 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// The pending beginning of a line of each stream, and the file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    pending: [Vec<u8>; 2],
    out: Vec<u8>,
}

/// A pod that has the directory of logs mounted may put a FIFO or a link in the log's place: neither is written to.
fn open(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o640)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is not a regular file"));
    }
    Ok(file)
}

impl Log {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            file: open(path)?,
            pending: [Vec::new(), Vec::new()],
            out: Vec::new(),
        })
    }

    /// After the file was renamed away.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path)?;
        Ok(())
    }

    /// What a stream said at `now` (nanoseconds since 1970).
    pub fn write(&mut self, stream: Stream, bytes: &[u8], now: i64) -> io::Result<()> {
        let mut rest = bytes;
        let stamp = timestamp(now);
        let pending = &mut self.pending[stream as usize];
        while !rest.is_empty() {
            let line_end = rest.iter().position(|b| *b == b'\n');
            let room = LONGEST_LINE - pending.len();
            match line_end {
                Some(end) if end <= room => {
                    // A line may end as terminals and Windows end it; of that nothing is the line's.
                    let mut line = &rest[..end];
                    match line.strip_suffix(b"\r") {
                        Some(shorter) => line = shorter,
                        None if line.is_empty() && pending.last() == Some(&b'\r') => drop(pending.pop()),
                        None => {}
                    }
                    entry(&mut self.out, &stamp, stream, b'F', &[pending, line]);
                    pending.clear();
                    rest = &rest[end + 1..];
                }
                _ if rest.len() > room => {
                    entry(&mut self.out, &stamp, stream, b'P', &[pending, &rest[..room]]);
                    pending.clear();
                    rest = &rest[room..];
                }
                _ => {
                    pending.extend_from_slice(rest);
                    rest = &[];
                }
            }
        }
        self.flush()
    }

    /// At the end of a stream: a last line without its end is a part, so that readers add no end to it.
    pub fn finish(&mut self, stream: Stream, now: i64) -> io::Result<()> {
        let pending = std::mem::take(&mut self.pending[stream as usize]);
        if !pending.is_empty() {
            entry(&mut self.out, &timestamp(now), stream, b'P', &[&pending]);
        }
        self.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.write_all(&self.out);
        self.out.clear();
        self.out.shrink_to(LONGEST_LINE);
        result
    }
}

fn entry(out: &mut Vec<u8>, stamp: &str, stream: Stream, tag: u8, parts: &[&[u8]]) {
    out.extend_from_slice(stamp.as_bytes());
    out.extend_from_slice(match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    });
    out.extend_from_slice(&[tag, b' ']);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.push(b'\n');
}

/// RFC 3339 in UTC with nine digits of the second.
fn timestamp(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(1_000_000_000), nanos.rem_euclid(1_000_000_000));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Days to year, month, day: years begin in March, so that the leap day is the last.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        for (nanos, want) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_735_689_599_999_999_999, "2024-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(timestamp(nanos), want);
        }
    }

    #[test]
    fn a_carriage_return_is_of_a_line_s_end_only_before_its_newline() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path).unwrap();
        for piece in ["a\r\nb\rc\r\n", "x\r", "\nd\r"] {
            log.write(Stream::Stdout, piece.as_bytes(), 0).unwrap();
        }
        log.finish(Stream::Stdout, 0).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.split_terminator('\n').map(|l| &l[31..]).collect();
        assert_eq!(lines, ["stdout F a", "stdout F b\rc", "stdout F x", "stdout P d\r"]);
    }

    #[test]
    fn long_lines_are_written_in_parts_and_unended_ones_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c/0.log");
        let mut log = Log::open(&path).unwrap();
        log.write(Stream::Stdout, b"one\ntwo", 0).unwrap();
        log.write(Stream::Stderr, b"err\n", 0).unwrap();
        let mut long = vec![b'x'; LONGEST_LINE + 5];
        long[0] = b'\n';
        log.write(Stream::Stdout, &long, 0).unwrap();
        log.finish(Stream::Stdout, 0).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().map(|l| &l[31..]).collect();
        assert_eq!(lines[0], "stdout F one");
        assert_eq!(lines[1], "stderr F err");
        assert_eq!(lines[2], "stdout F two");
        assert_eq!(lines[3], format!("stdout P {}", "x".repeat(LONGEST_LINE)));
        assert_eq!(lines[4], "stdout P xxxx");
    }
}

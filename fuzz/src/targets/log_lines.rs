//! Lines of container logs as a kubelet reads them, and those that the runtime writes.

use crate::{Form, Target};

pub const TARGET: Target = Target::new("log_lines", Form::Bytes, check);

fn check(input: &[u8]) {
    let read = |timestamps| kubelet::fuzzing::log_lines(input, timestamps);
    let (plain, stamped) = (read(false), read(true));
    assert!(plain.len() <= stamped.len() && stamped.len() <= input.len());
    // what a container writes comes back, but for the ends of lines that terminals write
    if !input.contains(&b'\r')
        && let Ok(dir) = tempfile::tempdir()
        && let Ok(written) = runtime::fuzzing::written_log(dir.path(), input)
    {
        let back = kubelet::fuzzing::log_lines(&written, false);
        assert_eq!(back, input, "a log has what was written");
    }
}

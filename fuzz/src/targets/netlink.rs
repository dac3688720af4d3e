//! Datagrams of the kernel: links, addresses, routes, neighbours, rules, tracked connections. The first byte says whether a list was asked
//! for.

use crate::{Form, Target};

pub const TARGET: Target = Target::new("netlink", Form::Bytes, check);

fn check(input: &[u8]) {
    let Some((first, datagram)) = input.split_first() else {
        return;
    };
    match cni::fuzzing::replies(datagram, first & 1 == 1) {
        Ok(replies) => assert!(replies.iter().map(cni::fuzzing::parts).sum::<usize>() <= replies.len() * 6),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    let words = cni::netlink::attributes(datagram)
        .map(|(_, data)| data.len())
        .sum::<usize>();
    assert!(words <= datagram.len());
}

//! Changes of bytes, for where no libFuzzer makes them: what tests try beside the seeds.

use crate::Random;

/// Numbers at which lengths and offsets go wrong.
const EDGES: [u64; 9] = [0, 1, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u64::MAX];

/// The bytes with one to four changes; `other` is an input that parts may be taken from.
pub fn mutated(input: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = input.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(out.len() + 1);
        let end = (at + random.below(16)).min(out.len());
        match random.below(7) {
            0 => drop(out.drain(at..end)),
            1 => {
                let part = out[at..end].to_vec();
                let to = random.below(out.len() + 1);
                out.splice(to..to, part);
            }
            2 => {
                let from = random.below(other.len() + 1);
                let to = (from + random.below(32)).min(other.len());
                out.splice(at..end, other[from..to].iter().copied());
            }
            3 => {
                let number = EDGES[random.below(EDGES.len())].to_be_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                out.splice(at..(at + width).min(out.len()), number[8 - width..].iter().copied());
            }
            4 => {
                let number = EDGES[random.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][random.below(4)];
                out.splice(at..(at + width).min(out.len()), number[..width].iter().copied());
            }
            5 => out.truncate(at),
            _ => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
        }
    }
    out
}

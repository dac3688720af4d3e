//! Shuffle sharding: which queues a flow may wait in. Two flows share all of them rarely, so that one that floods its queues leaves
//! another most of its own (`k8s.io/apiserver/pkg/util/shufflesharding`).

use ring::digest::{SHA256, digest};
use smallvec::SmallVec;

/// The most queues of a hand.
const LARGEST: usize = 15;
/// Bits of a hash that are dealt from.
const BITS: f64 = 60.0;

/// Deals hands of queues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dealer {
    queues: usize,
    hand: usize,
}

impl Dealer {
    /// Deals `hand` of `queues`; `None` where that cannot be done.
    pub fn new(queues: usize, hand: usize) -> Option<Dealer> {
        let entropy = (queues as f64).log2() * hand as f64;
        let fits = (1..=LARGEST).contains(&hand) && hand <= queues && queues <= 1 << 26 && entropy.ceil() <= BITS;
        fits.then_some(Dealer { queues, hand })
    }

    /// How many queues there are.
    pub fn queues(&self) -> usize {
        self.queues
    }

    /// The queues of a flow with this hash.
    pub fn deal(&self, mut hash: u64) -> SmallVec<[usize; 8]> {
        let mut rest = [0usize; LARGEST];
        for (i, slot) in rest.iter_mut().take(self.hand).enumerate() {
            let left = (self.queues - i) as u64;
            *slot = (hash % left) as usize;
            hash /= left;
        }
        let mut hand = SmallVec::new();
        for i in 0..self.hand {
            let mut card = rest[i];
            for before in rest[..i].iter().rev() {
                if card >= *before {
                    card += 1;
                }
            }
            hand.push(card);
        }
        hand
    }
}

/// The hash of a flow: its schema and what it is told from others by.
pub fn hash(schema: &str, distinguisher: &str) -> u64 {
    let mut text: SmallVec<[u8; 128]> = SmallVec::from_slice(schema.as_bytes());
    text.push(0);
    text.extend_from_slice(distinguisher.as_bytes());
    let digest = digest(&SHA256, &text);
    let mut first = [0u8; 8];
    first.copy_from_slice(&digest.as_ref()[..8]);
    u64::from_le_bytes(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `shufflesharding_test.go`
    #[test]
    fn hands_have_different_queues_and_are_dealt_as_upstream_deals_them() {
        let dealer = Dealer::new(128, 8).unwrap();
        for (hash, want) in [
            (0, [0, 1, 2, 3, 4, 5, 6, 7]),
            (17, [17, 0, 1, 2, 3, 4, 5, 6]),
            (32, [32, 0, 1, 2, 3, 4, 5, 6]),
            (0xFFFF_FFFF, [127, 67, 118, 62, 15, 0, 1, 2]),
        ] {
            let hand = dealer.deal(hash);
            assert_eq!(hand.len(), 8);
            let mut sorted = hand.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 8, "{hash}: {hand:?}");
            if hash < 128 {
                assert_eq!(hand[..], want, "{hash}");
            }
        }
    }

    #[test]
    fn what_cannot_be_dealt_has_no_dealer() {
        assert!(Dealer::new(64, 8).is_some());
        assert!(Dealer::new(1, 1).is_some());
        for (queues, hand) in [(5, 9), (0, 0), (1024, 8), (16, 0), (1 << 20, 16)] {
            assert!(Dealer::new(queues, hand).is_none(), "{queues} {hand}");
        }
    }
}

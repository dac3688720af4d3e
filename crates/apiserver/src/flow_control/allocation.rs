//! How many seats each level gets for now: those that use fewer than they have lend them (`flowcontrol/conc_alloc.go`, and
//! `updateBorrowingLocked` of `apf_controller.go`).

/// What a level may have and wants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wish {
    pub exempt: bool,
    pub nominal: u32,
    /// What it lends to nobody, and what it has at most.
    pub least: u32,
    pub most: u32,
    /// The most seats that were asked for in the time before.
    pub peak: u32,
    /// What is asked for in the long run.
    pub smoothed: f64,
}

impl Wish {
    /// What it gets in any case.
    fn floor(&self) -> u32 {
        match self.exempt {
            true => self.least.max(self.peak),
            false => self.least.max(self.nominal.min(self.peak)),
        }
    }
}

/// No level wants less: what is divided by must not be nothing.
const LEAST_TARGET: f64 = 0.001;
const EPSILON: f64 = 1e-7;

/// A level among those that share.
#[derive(Debug, Clone, Copy)]
struct Item {
    low: f64,
    high: f64,
    target: f64,
}

/// The seats of each level, in the order of the wishes.
pub fn seats(wishes: &[Wish]) -> Vec<u32> {
    let total: i64 = wishes.iter().map(|wish| i64::from(wish.nominal)).sum();
    let exempt: i64 = wishes.iter().filter(|w| w.exempt).map(|w| i64::from(w.floor())).sum();
    let limited = || wishes.iter().filter(|wish| !wish.exempt);
    let least: i64 = limited().map(|wish| i64::from(wish.least)).sum();
    let floors: i64 = limited().map(|wish| i64::from(wish.floor())).sum();
    let left = total - exempt;
    let shared = if left <= least {
        Shared::Least
    } else if left <= floors {
        Shared::Floor((left - least) as f64 / (floors - least) as f64)
    } else {
        let items: Vec<Item> = limited().map(Item::of).collect();
        Shared::Fair(fair_share(total as f64, &items))
    };
    let seats = wishes.iter().map(|wish| match shared {
        _ if wish.exempt => wish.floor(),
        Shared::Least => wish.least,
        Shared::Floor(part) => wish.least + (f64::from(wish.floor() - wish.least) * part).round() as u32,
        Shared::Fair(part) => Item::of(wish).given(part).round() as u32,
    });
    seats.collect()
}

/// How seats are shared.
#[derive(Clone, Copy)]
enum Shared {
    /// There are not more than what nobody lends.
    Least,
    /// A part of what each asks for beyond that.
    Floor(f64),
    /// A part of what each wants.
    Fair(f64),
}

impl Item {
    fn of(wish: &Wish) -> Item {
        Item {
            low: f64::from(wish.floor()),
            high: f64::from(wish.most),
            target: f64::from(wish.floor()).max(wish.smoothed).max(LEAST_TARGET),
        }
    }

    fn given(self, part: f64) -> f64 {
        (part * self.target).min(self.high).max(self.low)
    }
}

/// The part of its target that each item gets, within its bounds, so that all together get `sum`. The sum of what they get grows with
/// the part, and changes its slope at the bounds alone.
fn fair_share(sum: f64, items: &[Item]) -> f64 {
    let given = |part: f64| -> f64 { items.iter().map(|item| item.given(part)).sum() };
    let mut bounds: Vec<f64> = items
        .iter()
        .flat_map(|i| [i.low / i.target, i.high / i.target])
        .collect();
    bounds.sort_by(f64::total_cmp);
    let mut before = bounds.first().copied().unwrap_or(0.0);
    for bound in bounds {
        if given(bound) >= sum - EPSILON {
            let slope: f64 = (items.iter())
                .filter(|i| i.low / i.target <= before && i.high / i.target >= bound)
                .map(|i| i.target)
                .sum();
            let missing = sum - given(before);
            return match slope > 0.0 && missing > 0.0 {
                true => (before + missing / slope).min(bound),
                false => before,
            };
        }
        before = bound;
    }
    // more than all may have
    before
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(nominal: u32, least: u32, peak: u32, smoothed: f64) -> Wish {
        Wish {
            exempt: false,
            nominal,
            least,
            most: nominal + 600,
            peak,
            smoothed,
        }
    }

    const EXEMPT: Wish = Wish {
        exempt: true,
        nominal: 0,
        least: 0,
        most: 600,
        peak: 0,
        smoothed: 0.0,
    };

    #[test]
    fn who_asks_for_nothing_lends_to_who_asks_for_much() {
        let seats = seats(&[wish(100, 10, 0, 0.0), wish(100, 50, 500, 400.0), EXEMPT]);
        assert_eq!(seats, [10, 190, 0]);
    }

    #[test]
    fn what_is_lent_comes_back_at_once_when_it_is_asked_for() {
        let seats = seats(&[wish(100, 10, 100, 20.0), wish(100, 50, 500, 400.0)]);
        assert_eq!(seats, [100, 100]);
        // the busier one keeps more of what the other does not ask for
        let seats = super::seats(&[wish(100, 10, 40, 20.0), wish(100, 50, 500, 400.0)]);
        assert_eq!(seats, [40, 160]);
    }

    #[test]
    fn what_exempt_requests_take_is_missing_to_the_others() {
        let exempt = Wish { peak: 120, ..EXEMPT };
        assert_eq!(
            seats(&[exempt, wish(100, 10, 100, 90.0), wish(100, 20, 100, 90.0)]),
            [120, 36, 44]
        );
        let exempt = Wish { peak: 500, ..EXEMPT };
        assert_eq!(
            seats(&[exempt, wish(100, 10, 100, 90.0), wish(100, 20, 100, 90.0)]),
            [500, 10, 20]
        );
    }

    /// Whatever is wished for, all seats are given and nobody gets less or more than it may.
    #[test]
    fn all_seats_are_given_within_the_bounds() {
        let mut random = 88_172_645_463_325_252_u64;
        let mut next = move |most: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            u32::try_from(random % most).unwrap()
        };
        for _ in 0..2000 {
            let wishes: Vec<Wish> = (0..1 + next(8))
                .map(|_| {
                    let nominal = 1 + next(200);
                    let mut wish = wish(nominal, nominal - next(u64::from(nominal) + 1), next(400), 0.0);
                    wish.smoothed = f64::from(next(400));
                    wish
                })
                .collect();
            let given = seats(&wishes);
            let (total, sum): (u32, u32) = (wishes.iter().map(|w| w.nominal).sum(), given.iter().sum());
            assert!(
                total.abs_diff(sum) <= u32::try_from(wishes.len()).unwrap(),
                "{wishes:?} {given:?}"
            );
            for (wish, seats) in wishes.iter().zip(given) {
                assert!((wish.floor()..=wish.most).contains(&seats), "{wish:?} {seats}");
            }
        }
    }
}

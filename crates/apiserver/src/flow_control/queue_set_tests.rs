use super::*;

fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn queued(queues: usize, hand: usize, length: usize, limit: u32) -> QueueSet {
    let dealer = Dealer::new(queues, hand).unwrap();
    QueueSet::new(Queuing::Queue { dealer, length }, limit, at(0))
}

fn seat() -> Width {
    Width::of(1)
}

#[test]
fn what_has_a_seat_goes_and_what_has_none_waits_or_is_refused() {
    let mut set = queued(1, 1, 1, 2);
    assert_eq!(set.arrive(at(0), 1, 0, seat()).0, Arrived::Goes);
    assert_eq!(set.arrive(at(0), 2, 0, seat()).0, Arrived::Goes);
    assert_eq!(set.arrive(at(0), 3, 0, seat()).0, Arrived::Waits);
    assert_eq!(set.arrive(at(0), 4, 0, seat()).0, Arrived::QueueFull);
    assert_eq!((set.waiting(), set.going(), set.seats_in_use()), (1, 2, 2));
    assert_eq!(set.finish(at(5), 1), [3]);
    assert_eq!(set.give_up(at(5), 3), None, "it goes");
    assert_eq!(set.finish(at(6), 2), [0u64; 0]);
    assert_eq!(set.finish(at(7), 3), [0u64; 0]);
    assert!(set.is_idle());

    let mut set = QueueSet::new(Queuing::Reject, 1, at(0));
    assert_eq!(set.arrive(at(0), 1, 0, seat()).0, Arrived::Goes);
    assert_eq!(set.arrive(at(0), 2, 0, seat()).0, Arrived::NoSeat);
    let mut set = QueueSet::new(Queuing::Exempt, 0, at(0));
    assert_eq!(set.arrive(at(0), 1, 0, seat()).0, Arrived::Goes);
    assert_eq!(set.arrive(at(0), 2, 0, seat()).0, Arrived::Goes);
    assert_eq!(set.seats_in_use(), 2);
}

#[test]
fn who_gives_up_leaves_the_queue() {
    let mut set = queued(1, 1, 5, 1);
    set.arrive(at(0), 1, 0, seat());
    set.arrive(at(0), 2, 0, seat());
    set.arrive(at(0), 3, 0, seat());
    assert_eq!(set.give_up(at(1), 2), Some(Vec::new()));
    assert_eq!(set.give_up(at(1), 2), None);
    assert_eq!(set.finish(at(2), 1), [3]);
}

/// A flow with a hundred requests in its queue does not make one of another flow wait for all of them.
#[test]
fn queues_take_turns_however_long_they_are() {
    let mut set = queued(64, 1, 200, 1);
    assert_eq!(set.arrive(at(0), 0, 0, seat()).0, Arrived::Goes);
    for id in 1..=100 {
        assert_eq!(set.arrive(at(0), id, 0, seat()).0, Arrived::Waits);
    }
    assert_eq!(set.arrive(at(1), 1000, 1, seat()).0, Arrived::Waits);
    let mut order = Vec::new();
    let (mut now, mut current) = (3, 0);
    while order.len() < 10 {
        let next = set.finish(at(now), current);
        current = next[0];
        order.extend(next);
        now += 3;
    }
    let place = order.iter().position(|id| *id == 1000).unwrap();
    assert!(place <= 1, "{order:?}");
}

/// Shares are of seats and not of requests: a flow of wide requests goes as many times less often.
#[test]
fn wide_requests_go_less_often() {
    let mut set = queued(64, 1, 200, 4);
    let wide = Width::of(4);
    let mut ids = 0..;
    let (mut wides, mut narrow) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    let mut going = Vec::new();
    for _ in 0..60 {
        for (hash, width, set_of) in [(0, wide, &mut wides), (1, seat(), &mut narrow)] {
            let id = ids.next().unwrap();
            set_of.insert(id);
            let (arrived, others) = set.arrive(at(0), id, hash, width);
            going.extend(others);
            if arrived == Arrived::Goes {
                going.push(id);
            }
        }
    }
    let (mut served_wide, mut served_narrow) = (0, 0);
    for round in 1..=60 {
        for id in std::mem::take(&mut going) {
            served_wide += usize::from(wides.contains(&id));
            served_narrow += usize::from(narrow.contains(&id));
            going.extend(set.finish(at(round * 3), id));
        }
        if served_narrow >= 40 {
            break;
        }
    }
    assert!(served_narrow >= 3 * served_wide, "{served_narrow} {served_wide}");
}

#[test]
fn a_request_that_is_wider_than_the_level_goes_alone() {
    let mut set = queued(1, 1, 5, 2);
    set.arrive(at(0), 1, 0, seat());
    assert_eq!(set.arrive(at(0), 2, 0, Width::of(5)).0, Arrived::Waits);
    // it is not overtaken
    assert_eq!(set.arrive(at(0), 3, 0, seat()).0, Arrived::Waits);
    assert_eq!(set.finish(at(1), 1), [2]);
    assert_eq!(set.finish(at(2), 2), [3]);
}

#[test]
fn seats_are_kept_while_watchers_are_told() {
    let mut set = queued(1, 1, 5, 2);
    let write = Width {
        initial: 1,
        last: 2,
        afterwards: Duration::from_millis(10),
    };
    assert_eq!(set.arrive(at(0), 1, 0, write).0, Arrived::Goes);
    assert_eq!(set.wake(), None);
    assert_eq!(set.arrive(at(1), 2, 0, seat()).0, Arrived::Waits);
    assert_eq!(set.finish(at(5), 1), [0u64; 0]);
    assert_eq!((set.wake(), set.seats_in_use()), (Some(at(15)), 2));
    assert_eq!(set.pass(at(14)), [0u64; 0]);
    assert_eq!(set.pass(at(15)), [2]);
    assert_eq!((set.wake(), set.seats_in_use()), (None, 1));
    // more seats than there are: the same work takes longer
    assert_eq!(
        write.within(1),
        Width {
            last: 1,
            afterwards: Duration::from_millis(20),
            ..write
        }
    );
}

#[test]
fn more_seats_let_others_go_and_fewer_queues_are_left_once_they_are_empty() {
    let mut set = queued(8, 1, 5, 1);
    set.arrive(at(0), 1, 7, seat());
    set.arrive(at(0), 2, 7, seat());
    let dealer = Dealer::new(4, 1).unwrap();
    assert_eq!(set.configure(at(1), Queuing::Queue { dealer, length: 5 }, 2), [2]);
    assert_eq!(set.view().count(), 8);
    set.finish(at(2), 1);
    set.finish(at(2), 2);
    assert_eq!(set.view().count(), 4);
    assert_eq!(set.arrive(at(3), 3, 3, seat()).0, Arrived::Goes);
    // queues go with what waits in them
    assert_eq!(set.configure(at(4), Queuing::Reject, 1), [0u64; 0]);
    assert_eq!(set.arrive(at(5), 4, 3, seat()).0, Arrived::NoSeat);
    set.finish(at(6), 3);
    assert_eq!(set.view().count(), 0);
}

/// Whatever happens, no seat is lost and nobody waits while there is room.
#[test]
fn no_seat_is_lost_whatever_happens() {
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move |most: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % most
    };
    for round in 0..50 {
        let limit = u32::try_from(1 + next(6)).unwrap();
        let mut set = queued(16, 4, 10, limit);
        let (mut now, mut id) = (0, 0);
        let (mut going, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..400 {
            now += next(4);
            let mut freed = match next(4) {
                0 | 1 => {
                    id += 1;
                    let width = Width {
                        initial: 1 + u32::try_from(next(3)).unwrap(),
                        last: u32::try_from(next(3)).unwrap(),
                        afterwards: Duration::from_millis(next(2) * 5),
                    };
                    let (arrived, others) = set.arrive(at(now), id, next(1 << 40), width);
                    match arrived {
                        Arrived::Goes => going.push(id),
                        Arrived::Waits => waiting.push(id),
                        Arrived::NoSeat | Arrived::QueueFull => {}
                    }
                    others
                }
                2 if !going.is_empty() => {
                    let one = going.swap_remove(usize::try_from(next(going.len() as u64)).unwrap());
                    set.finish(at(now), one)
                }
                3 if !waiting.is_empty() && next(3) == 0 => {
                    let one = waiting.swap_remove(usize::try_from(next(waiting.len() as u64)).unwrap());
                    set.give_up(at(now), one).unwrap()
                }
                _ => set.pass(at(now)),
            };
            waiting.retain(|one| !freed.contains(one));
            going.append(&mut freed);
            assert_eq!(
                (set.going(), set.waiting()),
                (going.len(), waiting.len()),
                "round {round}"
            );
            assert!(
                waiting.is_empty() || set.seats_in_use() > 0,
                "round {round}: nobody goes, and some wait"
            );
        }
        while !going.is_empty() || !waiting.is_empty() {
            now += 100;
            let freed = match going.pop() {
                Some(one) => set.finish(at(now), one),
                None => set.pass(at(now)),
            };
            assert!(!freed.is_empty() || !going.is_empty() || waiting.is_empty() || set.wake().is_some());
            waiting.retain(|other| !freed.contains(other));
            going.extend(freed);
        }
        set.pass(at(now + 100));
        assert!(set.is_idle() && waiting.is_empty(), "round {round}");
        assert_eq!((set.seats_in_use(), set.seats_waiting()), (0, 0), "round {round}");
    }
}

use super::*;

#[test]
fn one_shard_may_use_the_limit_exactly_and_not_one_more() {
    let budget = Budget::new(3 << 20, 100, 2);
    let mut lease = budget.lease();
    assert_eq!(lease.reserve_bytes((3 << 20) - 5), Ok(()));
    let refusal = lease.reserve_bytes(6).expect_err("one more than is free");
    assert_eq!(refusal.reason, Reason::MemoryFull);
    assert_eq!(refusal.text, "request needs 6 bytes, 5 are free; retry in 100 ms");
    assert_eq!(lease.reserve_bytes(5), Ok(()));
    assert_eq!(lease.reserve_bytes(0), Ok(()));
    assert!((0..100).all(|_| lease.reserve_request().is_ok()));
    let refusal = lease.reserve_request().expect_err("one more than allowed");
    assert_eq!(refusal.text, "100 of 100 requests wait: Exceeds maximum queue size; retry in 100 ms");
    assert_eq!([(); 3].map(|()| lease.reserve_connection()), [true, true, false]);
    lease.release_connection();
    assert!(lease.reserve_connection());
}

#[test]
fn a_refused_reservation_changes_nothing() {
    let quota = Quota::new(10, 4);
    let mut share = quota.share();
    assert!(share.reserve(9));
    assert!(!share.reserve(2));
    assert!(!share.reserve(u64::MAX));
    assert_eq!((share.used(), share.free()), (9, 1));
}

#[test]
fn the_sum_of_all_shards_never_passes_the_limit() {
    let quota = Quota::new(100, 16);
    std::thread::scope(|scope| {
        for seed in 1..=4_u64 {
            let quota = &quota;
            scope.spawn(move || {
                let mut share = quota.share();
                let (mut random, mut held) = (seed, Vec::new());
                for _ in 0..10_000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let amount = (random >> 33) % 20;
                    if (random >> 60) & 1 == 0 && share.reserve(amount) {
                        held.push(amount);
                    } else if let Some(amount) = held.pop() {
                        share.release(amount);
                    }
                    assert!(quota.taken.load(Ordering::Relaxed) <= 100);
                    assert_eq!(share.used(), held.iter().sum::<u64>());
                }
            });
        }
    });
    assert_eq!(quota.free(), 100);
}

#[test]
fn steady_use_takes_no_further_block() {
    let quota = Quota::new(1 << 20, 64);
    let mut share = quota.share();
    for _ in 0..1_000 {
        assert!(share.reserve(10));
        share.release(10);
        assert_eq!(quota.taken.load(Ordering::Relaxed), 64);
    }
}

#[test]
fn blocks_come_back_when_a_shard_needs_them_no_more() {
    let quota = Quota::new(640, 64);
    let mut busy = quota.share();
    assert!(busy.reserve(600));
    let mut other = quota.share();
    assert!(!other.reserve(64));
    busy.release(600);
    assert!(other.reserve(500), "all but one block came back at once");
    other.release(500);
    busy.settle();
    other.settle();
    assert_eq!(quota.free(), 640);
    let mut last = quota.share();
    assert!(last.reserve(640));
    drop(last);
    assert_eq!(quota.free(), 640, "a shard that ends gives everything back");
}

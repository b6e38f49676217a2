//! Upper bounds on a share that was only sampled: how many hits are wrong at most, given that so many of those looked at were?
//!
//! Two of them. [`wilson`] is for a sample whose size was settled before anybody looked: the pairs of a calibration. [`at_any_time`]
//! is for a sample that grows and is looked at after each step, as audits are: whoever peeks at Wilson's bound until it suits him is
//! wrong far more often than the bound says.
//!
//! The second one bets. A gambler who holds that at least a share `p` is wrong must offer fair odds on each audit; we bet that it is less, with
//! several stakes beside one another, and reinvest. If he is right our wealth is a supermartingale, and by Ville's inequality it ever
//! reaches `1 / alpha` with a chance of at most `alpha`, however long the game goes and whenever it is looked at. The bound is the largest
//! `p` that has not been ruined so (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", 2023).
//!
//! What it does not do: it keeps no sample; counts are brought.
//!
//! **Invariant:** more wrong ones never lower a bound, and more right ones never raise it.

/// Of an interval that holds in 95 of 100 cases.
const Z: f64 = 1.959_964;

/// The stakes: each bets as if the share were this part of `p`. Near 0 for those that win fast where nothing is wrong, near 1 for those
/// that live on small differences.
const STAKES: [f64; 12] = [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95];

/// The upper end of Wilson's 95 % interval; 1 where there is no sample.
pub fn wilson(wrong: f64, of: f64) -> f64 {
    if of <= 0.0 {
        return 1.0;
    }
    let (share, square) = (wrong / of, Z * Z);
    let spread = Z * (share * (1.0 - share) / of + square / (4.0 * of * of)).sqrt();
    ((share + square / (2.0 * of) + spread) / (1.0 + square / of)).min(1.0)
}

/// The logarithm of what one unit has become that was bet against "at least a share `p` is wrong".
pub fn wealth(wrong: f64, of: f64, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return 0.0;
    }
    let right = (of - wrong).max(0.0);
    let won = |part: f64| {
        let lost = if wrong > 0.0 { wrong * part.ln() } else { 0.0 };
        lost + right * ((-p * part).ln_1p() - (-p).ln_1p())
    };
    let won = STAKES.map(won);
    let most = won.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    most + (won.iter().map(|one| (one - most).exp()).sum::<f64>() / STAKES.len() as f64).ln()
}

/// The bound that holds at all times at once, but with a chance of `alpha`; 1 where there is no sample.
pub fn at_any_time(wrong: f64, of: f64, alpha: f64) -> f64 {
    if of <= 0.0 {
        return 1.0;
    }
    let ruin = -alpha.ln();
    let (mut low, mut high) = ((wrong / of).min(1.0), 1.0);
    // Wealth only grows with `p`: forty halvings are finer than any sample.
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        if wealth(wrong, of, middle) < ruin {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The logarithm of what one unit has become that was bet against "at most a share `p` is wrong": the other side of the table.
pub fn distrust(wrong: f64, of: f64, p: f64) -> f64 {
    wealth((of - wrong).max(0.0), of, 1.0 - p)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_as_in_the_books() {
        for (wrong, of, expect) in
            [(0.0, 380.0, 0.0100), (10.0, 772.0, 0.0237), (5.0, 100.0, 0.1118), (0.0, 0.0, 1.0), (4.0, 4.0, 1.0)]
        {
            assert!((wilson(wrong, of) - expect).abs() < 1e-4, "{wrong} {of}: {}", wilson(wrong, of));
        }
    }

    #[test]
    fn bounds_move_as_they_should() {
        for of in [1.0, 20.0, 300.0, 5_000.0] {
            let bound = |wrong: f64, of: f64| at_any_time(wrong, of, 0.05);
            assert!(bound(0.0, of) < 1.0 && bound(0.0, of + 1.0) <= bound(0.0, of), "{of}");
            assert!(bound(1.0, of) >= bound(0.0, of) && bound(1.0, of) > 1.0 / of.max(1.1) * 0.999, "{of}");
            assert!(bound(0.0, of) > wilson(0.0, of) * 0.5, "to be valid at any time has its price: {of}");
        }
        assert!((at_any_time(0.0, 1e6, 0.05)) < 1e-4);
    }

    /// What the bound is for: somebody who looks after each audit, and stops when he likes what he sees. The share is exactly at the
    /// limit, so each time that the bound is below it is a mistake; 5 % may be.
    #[test]
    fn peeking_does_not_help() {
        let limit = 0.05;
        let mut random = fastrand::Rng::with_seed(7);
        let (mut betting, mut peeking) = (0, 0);
        for _ in 0..400 {
            let (mut wrong, mut fooled, mut fooled_by_wilson) = (0.0, false, false);
            for of in 1..=2_000 {
                wrong += f64::from(u8::from(random.f64() < limit));
                let of = f64::from(of);
                fooled |= wealth(wrong, of, limit) >= -(0.05_f64.ln());
                fooled_by_wilson |= of >= 50.0 && wilson(wrong, of) <= limit;
            }
            betting += usize::from(fooled);
            peeking += usize::from(fooled_by_wilson);
        }
        assert!(betting <= 20, "{betting} of 400");
        assert!(peeking > 40, "Wilson's bound should not survive this: {peeking} of 400");
    }

    #[test]
    fn distrust_grows_where_too_many_are_wrong() {
        assert!(distrust(5.0, 10.0, 0.05) > 3.0);
        assert!(distrust(1.0, 100.0, 0.05) < 0.0);
        let mut random = fastrand::Rng::with_seed(3);
        let fooled = (0..400).filter(|_| {
            let mut wrong = 0.0;
            (1..=2_000).any(|of| {
                wrong += f64::from(u8::from(random.f64() < 0.05));
                distrust(wrong, f64::from(of), 0.05) >= -(0.05_f64.ln())
            })
        });
        assert!(fooled.count() <= 20);
    }
}
